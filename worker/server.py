"""The worker's Unix socket: newline-delimited JSON, one request at a time on each connection.

`{"op":"run","job":{…}}` is answered by `{"event":"queued"|"started"}` lines for a job that had to wait, then by
one `{"result":{…}}` or `{"refused":{…}}`. `{"op":"status"}` by `{"status":{…}}`. Hanging up cancels.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from sandbox.job import Job, JobInvalid, Refusal
from worker.service import Service

log = logging.getLogger(__name__)

#: A job at its largest: 16 MiB of body as JSON and base64, with room for escapes.
MAX_LINE_BYTES = 128 * 1024 * 1024
READ_BYTES = 256 * 1024
BACKLOG = 1024


class Server:
    """Serves a `Service` to the processes of `api_uid` and root."""

    def __init__(self, service: Service, path: Path, api_uid: int) -> None:
        self._service = service
        self._path = path
        self._allowed_uids = {0, api_uid}
        self._socket = self._listen(path, api_uid)
        self._idle = threading.Condition()
        self._connections: dict[socket.socket, bool] = {}
        self._stopping = False

    @staticmethod
    def _listen(path: Path, api_uid: int) -> socket.socket:
        """Bind under a temporary name, so that the socket appears with its final owner and mode."""
        fresh = path.with_suffix(".new")
        for old in (fresh, path):
            with contextlib.suppress(FileNotFoundError):
                old.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(fresh))
        fresh.chmod(0o660)
        os.chown(fresh, 0, api_uid)
        listener.listen(BACKLOG)
        fresh.rename(path)
        return listener

    def serve(self) -> None:
        """Accept until `stop` is called."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._connection, args=(connection,), daemon=True)
            with self._idle:
                self._connections[connection] = False
            thread.start()

    def stop(self, drain_s: float) -> None:
        """Accept no more, let running jobs finish for `drain_s`, then cancel them and wait."""
        self._stopping = True
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._idle:
            for connection, busy in self._connections.items():
                if not busy:
                    _hang_up(connection)
            self._idle.wait_for(lambda: not any(self._connections.values()), drain_s)
            for connection in self._connections:
                _hang_up(connection)
            self._idle.wait_for(lambda: not self._connections, drain_s + 10)

    # -- one connection ----------------------------------------------------------------------------

    def _connection(self, connection: socket.socket) -> None:
        try:
            if _peer_uid(connection) not in self._allowed_uids:
                log.warning("a stranger at the worker's socket was turned away")
                return
            for line in _lines(connection):
                self._set_busy(connection, busy=True)
                try:
                    answer = self._answer(line, connection)
                finally:
                    self._set_busy(connection, busy=False)
                connection.sendall(answer)
                if self._stopping:
                    return
        except OSError:
            pass  # the peer has gone; its run was cancelled by that
        except Exception:
            log.exception("a connection failed")
        finally:
            with self._idle:
                self._connections.pop(connection, None)
                self._idle.notify_all()
            connection.close()

    def _set_busy(self, connection: socket.socket, *, busy: bool) -> None:
        with self._idle:
            self._connections[connection] = busy
            if self._stopping:
                self._idle.notify_all()

    def _answer(self, line: bytes, connection: socket.socket) -> bytes:
        try:
            request: Any = orjson.loads(line)
            op = request["op"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            return _line({"refused": Refusal(400, "malformed request", "invalid_json").to_json()})
        if op == "run":
            return self._run(request.get("job"), connection)
        if op == "status":
            return _line({"status": self._service.status()})
        return _line({"refused": Refusal(400, "unknown operation", "invalid_value").to_json()})

    def _run(self, data: object, connection: socket.socket) -> bytes:
        def tell(event: str) -> None:
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            connection.sendall(_line({"event": event, "at": at}))

        if self._stopping:
            return _line({"refused": Refusal(503, "stopping", "overloaded", None, 2).to_json()})
        try:
            job = Job.from_json(data)
        except JobInvalid as e:
            return _line({"refused": Refusal(400, e.message, e.code, e.param).to_json()})
        outcome = self._service.executor.run(job, client_fd=connection.fileno(), on_event=tell)
        if isinstance(outcome, Refusal):
            return _line({"refused": asdict(outcome)})
        return _line({"result": outcome})


def _line(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


def _lines(connection: socket.socket) -> Iterator[bytes]:
    """The request lines of a connection. Ends at its end; a line beyond the bound ends it too."""
    buffer = bytearray()
    searched = 0
    while True:
        at = buffer.find(b"\n", searched)
        if at >= 0:
            line = bytes(buffer[:at])
            del buffer[: at + 1]
            searched = 0
            yield line
            continue
        searched = len(buffer)
        if searched > MAX_LINE_BYTES:
            return
        data = connection.recv(READ_BYTES)
        if not data:
            return
        buffer += data


def _peer_uid(connection: socket.socket) -> int:
    """The uid that connected, by the kernel's word (SO_PEERCRED, unix(7))."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

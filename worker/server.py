"""The worker's Unix socket: newline-delimited JSON, one request at a time on each connection.

`worker.handlers` lists the requests; this module manages the connections and their end.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from config.pieces import PIECE_BYTES
from worker.handlers import Connection, RequestHandlers
from worker.ready_threads import ReadyThreads
from worker.runs import RunTable
from worker.service import Service
from worker.unix_channel import UnixChannel

log = logging.getLogger(__name__)

#: A job at its largest: 16 MiB of body as JSON and base64, with room for escapes.
MAX_LINE_BYTES = 128 * 1024 * 1024
#: A piece of bytes behind a request has its length in front.
LENGTH_BYTES = 4
MAX_PIECE_BYTES = 1024 * 1024
BACKLOG = 1024
#: Seconds after which a connection is closed if its peer takes none of the sent bytes.
SEND_TIMEOUT_S = 60
_SEND_TIMEVAL = struct.pack("ll", SEND_TIMEOUT_S, 0)
#: Seconds that a stopping worker waits for runs it has ended, and for api to take the results.
END_S = 10.0
ACKNOWLEDGE_S = 3.0


class Server:
    """Serves a `Service` to the processes of `api_uid` and root."""

    def __init__(self, service: Service, path: Path, api_uid: int, *, most_runs: int) -> None:
        """`most_runs` bounds the runs that are alive or not acknowledged."""
        self._path = path
        self._api_uid = api_uid
        self._allowed_uids = {0, api_uid}
        self._runs = RunTable(most_runs)
        self._operations = RequestHandlers(service, self._runs)
        self._socket = self._listen(path, api_uid)
        self._change = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._threads = ReadyThreads()

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
            self._start(connection, _peer_uid(connection))

    def serve_api(self, connection: socket.socket) -> None:
        """Serve a connection of an api process on another machine."""
        self._start(connection, self._api_uid)

    def _start(self, connection: socket.socket, uid: int) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEVAL)
        with self._change:
            self._connections.add(connection)
        self._threads.start(functools.partial(self._connection, connection, uid))

    def stop(self, drain_s: float) -> None:
        """Take no more runs, let those that there are finish for `drain_s`, then end them.

        Then api has a moment to take the results, and everybody is hung up. Until then the socket is open: api may
        have lost its connections, to a worker before this one, and looks for it again at intervals.
        """
        self._operations.refuse_runs()
        if not self._runs.wait_until_ended(drain_s):
            self._runs.end_all("stopping")
            self._runs.wait_until_ended(END_S)
        if not self._runs.wait_until_acknowledged(ACKNOWLEDGE_S):
            log.warning("results were not acknowledged: their runs will be reported as lost")
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._change:
            for connection in self._connections:
                _hang_up(connection)
            self._change.wait_for(lambda: not self._connections, END_S)

    def _connection(self, sock: socket.socket, uid: int) -> None:
        reader = RequestReader(sock)
        connection = Connection(UnixChannel(sock, reader.has_read_ahead), uid, reader.pieces)
        try:
            if uid not in self._allowed_uids:
                log.warning("a connection of another uid to the worker's socket was rejected")
                return
            for line in reader.lines():
                self._operations.answer(line, connection)
        except OSError:
            pass  # the peer has gone; its run was cancelled by that
        except Exception:
            log.exception("a connection failed")
        finally:
            self._operations.on_disconnect(connection)
            with self._change:
                self._connections.discard(sock)
                self._change.notify_all()
            sock.close()


class RequestReader:
    """Reads a connection: request lines, and after some of them bytes in pieces that have their length in front."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def lines(self) -> Iterator[bytes]:
        """Yield the request lines, until the connection ends or a line exceeds the bound."""
        searched = 0
        while True:
            at = self._buffer.find(b"\n", searched)
            if at >= 0:
                line = bytes(self._buffer[:at])
                del self._buffer[: at + 1]
                searched = 0
                yield line
                continue
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES or not self._receive():
                return

    def has_read_ahead(self) -> bool:
        """Return whether bytes beyond the last line or piece have been read."""
        return bool(self._buffer)

    def pieces(self) -> Iterator[bytes]:
        """Yield the pieces up to the empty one that ends them. Raises ConnectionError when they are cut."""
        while True:
            size = int.from_bytes(self._exactly(LENGTH_BYTES), "big")
            if size == 0:
                return
            if size > MAX_PIECE_BYTES:
                raise ConnectionError("a piece is too long")
            yield self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._receive():
                raise ConnectionError("the connection ended within a piece")
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _receive(self) -> bool:
        data = self._connection.recv(PIECE_BYTES)
        self._buffer += data
        return bool(data)


def _peer_uid(connection: socket.socket) -> int:
    """Return the uid of the peer, as the kernel reports it (SO_PEERCRED, unix(7))."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

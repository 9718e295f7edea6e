"""One host: api and worker talk over a Unix socket in lines of JSON.

Theory of operation. A connection carries one request at a time and is kept for the next one. The request is
one line; the answer is zero or more event lines and one last line. Closing a connection cancels its run.

What is known when a connection breaks decides what may be said of the run:

* The worker acts on complete lines only. As long as the last byte of the line was not accepted by the
  kernel, nothing was started.
* A peer that closes a Unix socket with bytes of ours unread gives us ECONNRESET, not end of file
  (`unix_release_sock` in net/unix/af_unix.c; a connection never accepted likewise). The newline is our last
  byte, so ECONNRESET before any answer means that the line was never read whole: nothing was started.
* End of file means that the worker had read all of it: the run is lost.

Only in the first two cases may the job be sent again, and only when the connection was a kept one.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from dispatch import ClientGone, WorkerLost, WorkerUnavailable
from sandbox.job import Job, Refusal

if TYPE_CHECKING:
    from pathlib import Path

#: Two streams of 8 MiB, where JSON makes six bytes of a control character, and room for the rest.
MAX_LINE_BYTES = 128 * 1024 * 1024
CONNECT_TIMEOUT_S = 2.0
SEND_TIMEOUT_S = 30.0
STATUS_TIMEOUT_S = 5.0
#: What a run may take beside its own wall clock and the queue: compiling, a cold start, collecting, sending.
RUN_MARGIN_S = 75.0
DEFAULT_TIMEOUT_MS = 10_000
IDLE_MAX = 64
FIRST_READ_BYTES = 64 * 1024
READ_BYTES = 1024 * 1024

_ANSWERS = ("result", "refused", "status")
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_TIMEVAL = struct.pack("ll", int(CONNECT_TIMEOUT_S), 0)

Event = Callable[[dict[str, Any]], None]


class _NotTakenError(Exception):
    """The connection broke, and it is certain that the worker never had the whole line."""


class _LostError(Exception):
    """The connection broke, or said something unreadable, after the worker had the line."""


class _Connection:
    """One connection: a socket, what was read beyond the last line, and a poll object for both ends."""

    __slots__ = ("_buffer", "_fd", "_poll", "_sock")

    def __init__(self, path: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # A full backlog makes connect() wait for as long as a send may; every later call is non-blocking.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL)
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        self._fd = sock.fileno()
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def close(self) -> None:
        self._sock.close()

    def is_fresh(self) -> bool:
        """Whether a kept connection can carry a request: anything to read on it is an end or an error."""
        return not self._buffer and not self._poll.poll(0)

    def exchange(
        self, line: bytes, *, deadline: float, client_fd: int | None, on_event: Event | None
    ) -> dict[str, Any]:
        """Send a line and read the last line of the answer. Raises _NotTakenError, _LostError, ClientGone."""
        if client_fd is not None:
            self._poll.register(client_fd, _GONE)
        try:
            self._send(line)
            answered = False
            while True:
                message = self._message(self._line(deadline, answered=answered))
                answered = True
                if any(isinstance(message.get(kind), dict) for kind in _ANSWERS):
                    return message
                if "event" not in message:
                    raise _LostError("the answer is none of those agreed on")
                if on_event is not None:
                    on_event(message)
        finally:
            if client_fd is not None:
                self._poll.unregister(client_fd)

    def _send(self, line: bytes) -> None:
        try:
            sent = self._sock.send(line, socket.MSG_DONTWAIT)
            if sent < len(line):
                self._send_rest(memoryview(line)[sent:])
        except BlockingIOError:
            self._send_rest(memoryview(line))
        except OSError as e:
            raise _NotTakenError from e

    def _send_rest(self, rest: memoryview) -> None:
        deadline = time.monotonic() + SEND_TIMEOUT_S
        self._poll.modify(self._fd, select.POLLOUT)
        try:
            while rest:
                ready = self._wait(deadline)
                if not ready:
                    raise _NotTakenError
                if self._fd not in ready:
                    raise ClientGone
                rest = rest[self._sock.send(rest, socket.MSG_DONTWAIT) :]
        except OSError as e:
            raise _NotTakenError from e
        finally:
            self._poll.modify(self._fd, select.POLLIN)

    def _wait(self, deadline: float) -> list[int]:
        """Descriptors something happened on; empty when the deadline passed."""
        remaining = deadline - time.monotonic()
        return [fd for fd, _ in self._poll.poll(remaining * 1000)] if remaining > 0 else []

    def _line(self, deadline: float, *, answered: bool) -> bytearray:
        """The next line. What the worker says counts before the client's leaving: the run may have ended."""
        buffer = self._buffer
        scanned = 0
        while (end := buffer.find(b"\n", scanned)) < 0:
            scanned = len(buffer)
            if scanned > MAX_LINE_BYTES:
                raise _LostError("the answer is too long")
            ready = self._wait(deadline)
            if not ready:
                raise _LostError("no answer in time")
            if self._fd not in ready:
                raise ClientGone
            buffer += self._receive(scanned, started=answered or scanned > 0)
        if end == len(buffer) - 1:
            self._buffer = bytearray()
            return buffer
        line = buffer[:end]
        del buffer[: end + 1]
        return line

    def _receive(self, held: int, *, started: bool) -> bytes:
        try:
            chunk = self._sock.recv(READ_BYTES if held else FIRST_READ_BYTES, socket.MSG_DONTWAIT)
        except ConnectionResetError as e:
            raise (_LostError("the connection broke") if started else _NotTakenError()) from e
        except OSError as e:
            raise _LostError("the connection broke") from e
        if not chunk:
            raise _LostError("the connection was closed")
        return chunk

    @staticmethod
    def _message(line: bytearray) -> dict[str, Any]:
        try:
            message = orjson.loads(line)
        except ValueError as e:
            raise _LostError("the answer is not JSON") from e
        if not isinstance(message, dict):
            raise _LostError("the answer is not an object")
        return message


class UnixDispatcher:
    """Reaches the worker of this host (`dispatch.Dispatcher`). Safe for many threads."""

    def __init__(self, path: Path, *, queue_wait_s: float = 30.0) -> None:
        self._path = str(path)
        self._queue_wait_s = queue_wait_s
        # A list is the pool: append and pop are atomic, and the connection used last is the warmest.
        self._idle: list[_Connection] = []

    def run(
        self, job: Job, *, client_fd: int | None = None, on_event: Event | None = None
    ) -> dict[str, Any] | Refusal:
        """Run a job and wait for its end; see `dispatch.Dispatcher.run`."""
        line = orjson.dumps({"op": "run", "job": job.to_json()}) + b"\n"
        timeout_s = job.limits.get("timeout_ms", DEFAULT_TIMEOUT_MS) / 1000
        allowed_s = timeout_s + self._queue_wait_s + RUN_MARGIN_S
        try:
            message = self._exchange(line, allowed_s, client_fd, on_event)
        except _LostError as e:
            raise WorkerLost(str(e)) from e
        result, refused = message.get("result"), message.get("refused")
        if isinstance(result, dict):
            return result
        return _refusal(refused)

    def status(self) -> dict[str, Any]:
        """What the worker says of itself; see `dispatch.Dispatcher.status`."""
        try:
            message = self._exchange(b'{"op":"status"}\n', STATUS_TIMEOUT_S, None, None)
        except _LostError as e:
            raise WorkerUnavailable(str(e)) from e
        status = message.get("status")
        if not isinstance(status, dict):
            raise WorkerUnavailable("the worker's status is not readable")
        return status

    def close(self) -> None:
        """Close the kept connections; those in use are closed by who uses them."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _exchange(
        self, line: bytes, allowed_s: float, client_fd: int | None, on_event: Event | None
    ) -> dict[str, Any]:
        connection, kept = self._take()
        while True:
            try:
                message = connection.exchange(
                    line, deadline=time.monotonic() + allowed_s, client_fd=client_fd, on_event=on_event
                )
            except _NotTakenError as e:
                connection.close()
                if not kept:
                    raise WorkerUnavailable("the worker went away before it took the request") from e
                connection, kept = self._connect(), False
            except BaseException:
                # To close is to cancel: nobody waits for the answer any more.
                connection.close()
                raise
            else:
                self._give_back(connection)
                return message

    def _take(self) -> tuple[_Connection, bool]:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if connection.is_fresh():
                return connection, True
            connection.close()
        return self._connect(), False

    def _connect(self) -> _Connection:
        try:
            return _Connection(self._path)
        except OSError as e:
            raise WorkerUnavailable("no worker listens") from e

    def _give_back(self, connection: _Connection) -> None:
        if len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()


def _refusal(data: object) -> Refusal:
    if not isinstance(data, dict):
        raise WorkerLost("the worker's answer is neither a result nor a refusal")
    try:
        return Refusal(**data)
    except TypeError as e:
        raise WorkerLost("the worker's refusal is not readable") from e

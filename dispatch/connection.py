"""One connection to the worker: a line out, lines back, and what is known when it breaks.

* The worker acts on complete lines only. As long as the last byte of the line was not accepted by the
  kernel, nothing was started.
* A peer that closes a Unix socket with bytes of ours unread gives us ECONNRESET, not end of file
  (`unix_release_sock` in net/unix/af_unix.c; a connection never accepted likewise). The newline is our last
  byte, so ECONNRESET before any answer means that the line was never read whole: nothing was started.
* End of file means that the worker had read all of it: what was asked is lost.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson

from config.turn import waiting
from dispatch import ClientGone
from dispatch.source import NOTHING_YET

#: Two streams of 8 MiB, where JSON makes six bytes of a control character, and a margin.
MAX_LINE_BYTES = 128 * 1024 * 1024
#: The client leaves deliberately before the answer.
LEAVE = b'{"op":"leave"}\n'
CONNECT_TIMEOUT_S = 2.0
SEND_TIMEOUT_S = 30.0
FIRST_READ_BYTES = 64 * 1024
READ_BYTES = 1024 * 1024

_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_TIMEVAL = struct.pack("ll", int(CONNECT_TIMEOUT_S), 0)


class NotDelivered(Exception):
    """The connection broke, and it is certain that the worker never had the whole line."""


class ConnectionLost(Exception):
    """The connection broke or had an unreadable message after the worker had the line."""


def connected(path: str) -> socket.socket:
    """Return a socket that is connected to the worker's. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # A full backlog makes connect() wait for as long as a send may; every later call is non-blocking.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


class WorkerConnection:
    """One connection: a socket, what was read beyond the last line, and a poll object for both ends."""

    __slots__ = ("_asked", "_buffer", "_fd", "_is_expired", "_poll", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._buffer = bytearray()
        #: True if a whole line was sent.
        self._asked = False
        self._is_expired = False
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def close(self) -> None:
        self._sock.close()

    def leave(self) -> None:
        """Send LEAVE and close the connection: a bare end would look like a killed process."""
        if self._asked:  # else LEAVE would be taken for the rest of the line
            with suppress(OSError):
                self._sock.send(LEAVE, socket.MSG_DONTWAIT)
        self._sock.close()

    def fileno(self) -> int:
        return self._fd

    def has_message(self) -> bool:
        """Return whether a whole line is there to be read."""
        return b"\n" in self._buffer

    def expire(self) -> None:
        """Make the next wait fail, as if its time were over."""
        self._is_expired = True

    def abandon(self) -> None:
        """Let `leave` close the connection as a killed process does."""
        self._asked = False

    def is_fresh(self) -> bool:
        """Return whether a kept connection can carry a request: anything to read on it is an end or an error."""
        return not self._buffer and not self._poll.poll(0)

    def messages(
        self,
        line: bytes,
        allowed_s: float,
        *,
        client_fd: int | None,
        per_message: bool = False,
        tells: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Send a line and yield the answer line by line, as long as the caller iterates.

        It may take `allowed_s` in all, or for each message (`per_message`). The caller decides
        which message is the last, and must read no further; until then the connection is good for nothing else.
        With `tells` NOTHING_YET comes first, when the line has been sent.
        Raises NotDelivered, ConnectionLost, and ClientGone when the peer of `client_fd` goes away.
        """
        if client_fd is not None:
            self._poll.register(client_fd, _GONE)
        self._asked = False
        try:
            self._send(line)
            self._asked = True
            answered = False
            if tells:
                yield NOTHING_YET
            deadline = time.monotonic() + allowed_s
            while True:
                message = self._message(self._line(deadline, answered=answered))
                answered = True
                yield message
                if per_message:
                    deadline = time.monotonic() + allowed_s
        finally:
            if client_fd is not None:
                self._poll.unregister(client_fd)

    def send_oneway(self, line: bytes) -> None:
        """Send a line that is not answered. Raises OSError."""
        self._sock.sendall(line)

    def _send(self, line: bytes) -> None:
        try:
            sent = self._sock.send(line, socket.MSG_DONTWAIT)
            if sent < len(line):
                self._send_rest(memoryview(line)[sent:])
        except BlockingIOError:
            self._send_rest(memoryview(line))
        except OSError as e:
            raise NotDelivered from e

    def _send_rest(self, rest: memoryview) -> None:
        deadline = time.monotonic() + SEND_TIMEOUT_S
        self._poll.modify(self._fd, select.POLLOUT)
        try:
            while rest:
                ready = self._wait(deadline)
                if not ready:
                    raise NotDelivered
                if self._fd not in ready:
                    raise ClientGone
                rest = rest[self._sock.send(rest, socket.MSG_DONTWAIT) :]
        except OSError as e:
            raise NotDelivered from e
        finally:
            self._poll.modify(self._fd, select.POLLIN)

    def _wait(self, deadline: float) -> list[int]:
        """Return the descriptors on which something happened; none when the deadline passed."""
        remaining = deadline - time.monotonic()
        if remaining <= 0 or self._is_expired:
            return []
        with waiting():
            return [fd for fd, _ in self._poll.poll(remaining * 1000)]

    def _line(self, deadline: float, *, answered: bool) -> bytearray:
        """Read the next line. One that is there counts before the client's disconnect: the run may have ended."""
        buffer = self._buffer
        scanned = 0
        while (end := buffer.find(b"\n", scanned)) < 0:
            scanned = len(buffer)
            if scanned > MAX_LINE_BYTES:
                raise ConnectionLost("the answer is too long")
            ready = self._wait(deadline)
            if not ready:
                raise ConnectionLost("no answer in time")
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
            raise (ConnectionLost("the connection broke") if started else NotDelivered()) from e
        except OSError as e:
            raise ConnectionLost("the connection broke") from e
        if not chunk:
            raise ConnectionLost("the connection was closed")
        return chunk

    @staticmethod
    def _message(line: bytearray) -> dict[str, Any]:
        try:
            message = orjson.loads(line)
        except ValueError as e:
            raise ConnectionLost("the answer is not JSON") from e
        if not isinstance(message, dict):
            raise ConnectionLost("the answer is not an object")
        return message

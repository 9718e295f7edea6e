"""One connection to the worker about a session: lines of JSON, and pieces of bytes with their length in front."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Any

import orjson

from config.pieces import PIECE_BYTES
from config.turn import waiting
from dispatch import ClientGone, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH_BYTES = 4
MAX_PIECE_BYTES = 1024 * 1024
#: A list of 10 000 entries with long names.
MAX_LINE_BYTES = 256 * 1024 * 1024
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class SessionConnection:
    """A socket, what was read beyond the last line, and the client that waits for the answer, if any."""

    def __init__(self, sock: socket.socket, allowed_s: float, client_fd: int | None) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._allowed_s = allowed_s
        self._is_expired = False
        self._poller: select.poll | None = None
        if client_fd is not None:
            self._poller = select.poll()
            self._poller.register(sock, select.POLLIN)
            self._poller.register(client_fd, _GONE)

    def fileno(self) -> int:
        return self._sock.fileno()

    def has_message(self) -> bool:
        """Return whether a whole line is there to be read."""
        return b"\n" in self._buffer

    def expire(self) -> None:
        """Make the next wait fail, as if its time were over."""
        self._is_expired = True

    def abandon(self) -> None:
        """Do nothing: such a connection is always closed as a killed process closes it."""

    def detach(self) -> socket.socket:
        """Return the socket, which is somebody else's from now on."""
        return socket.socket(fileno=self._sock.detach())

    def send_line(self, request: dict[str, Any]) -> None:
        self._sock.sendall(orjson.dumps({"op": "session", **request}, option=orjson.OPT_APPEND_NEWLINE))

    def send_piece(self, data: bytes) -> None:
        with waiting():
            for at in range(0, len(data) or 1, MAX_PIECE_BYTES):
                piece = data[at : at + MAX_PIECE_BYTES]
                self._sock.sendall(len(piece).to_bytes(LENGTH_BYTES, "big") + piece)

    def is_answered(self) -> bool:
        """Return whether the worker has answered, or gone: it wants no more of what is being sent."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        return bool(poller.poll(0))

    def line(self, *, alone: bool = False) -> dict[str, Any]:
        """Read a line; one that is `alone` without anything of what follows it."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES:
                raise WorkerLost("the answer is too long")
            self._receive(_to_newline(self._sock) if alone else PIECE_BYTES)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = orjson.loads(line)
        except ValueError as e:
            raise WorkerLost("the answer is not JSON") from e
        if not isinstance(message, dict):
            raise WorkerLost("the answer is not an object")
        return message

    def pieces(self) -> Iterator[bytes]:
        while size := int.from_bytes(self._exactly(LENGTH_BYTES), "big"):
            yield self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _receive(self, size: int = PIECE_BYTES) -> None:
        if self._is_expired:
            raise WorkerLost("no answer in time")
        with waiting():
            if self._poller is not None:
                self._wait(self._poller)
            data = self._sock.recv(size)
        if not data:
            raise WorkerLost("the connection was closed")
        self._buffer += data

    def _wait(self, poller: select.poll) -> None:
        ready = [fd for fd, _ in poller.poll(self._allowed_s * 1000)]
        if ready and self._sock.fileno() not in ready:
            raise ClientGone


def _to_newline(sock: socket.socket) -> int:
    """Return how many bytes to receive to get a line, or what there is of one, and nothing behind it."""
    with waiting():
        ahead = sock.recv(PIECE_BYTES, socket.MSG_PEEK)
    return ahead.find(b"\n") + 1 or max(1, len(ahead))

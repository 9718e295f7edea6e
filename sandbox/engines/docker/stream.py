"""The attach connection as a stream: Docker's framing taken off what comes, nothing put on what goes.

With `Tty: false` a container's stdout and stderr come interleaved, each piece behind eight bytes: its kind
(1 stdout, 2 stderr), three zeros, its length as a big-endian 32-bit number (Engine API, ContainerAttach).
"""

from __future__ import annotations

import contextlib
import socket

HEADER_BYTES = 8
STDOUT, STDERR = 1, 2
#: The sandbox's stderr is for the log: the error of a runtime or interpreter that could not start.
KEPT_STDERR_BYTES = 2000


class AttachStream:
    """As much of a socket as a conversation needs; reads stdout.

    Nothing is read ahead: no more is ever taken from the socket than the caller has asked for, so polling the
    descriptor is reliable.
    """

    def __init__(self, sock: socket.socket, early: bytes = b"") -> None:
        self._socket = sock
        self._early = early
        self._header = b""
        self._left = 0
        self._kind = 0
        self.words = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  # as socket has it
        self._socket.setblocking(flag)

    def send(self, data: bytes | memoryview) -> int:
        return self._socket.send(data)

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes of stdout; none at the end, and on framing that is not Docker's.

        Raises BlockingIOError or TimeoutError where a socket would.
        """
        while True:
            if not self._left and not self._next_header():
                return b""
            data = self._read(min(size, self._left))
            if not data:
                return b""
            self._left -= len(data)
            if self._kind == STDOUT:
                return data
            self.words = (self.words + data)[-KEPT_STDERR_BYTES:]

    def _next_header(self) -> bool:
        """Read the next piece's header, passing over empty pieces. False at the end."""
        while not self._left:
            while len(self._header) < HEADER_BYTES:
                data = self._read(HEADER_BYTES - len(self._header))
                if not data:
                    return False
                self._header += data
            self._kind, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
            if self._kind not in (STDOUT, STDERR) or any(self._header[1:4]):
                self.hang_up()
                self._left = 0
                return False
            self._header = b""
        return True

    def _read(self, size: int) -> bytes:
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        return self._socket.recv(size)

    def hang_up(self) -> None:
        """End both directions, safe from any thread: the daemon stops waiting for us to read, and the agent ends.

        The daemon cannot remove a container whose output is not read.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.hang_up()
        self._socket.close()

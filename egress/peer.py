"""One end of a relayed connection: a socket that is read and written without blocking, and what was read ahead."""

from __future__ import annotations

import asyncio
import contextlib
import socket

CHUNK_BYTES = 128 * 1024


class Peer:
    """A connected socket. `received` and `sent` count its bytes."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._ahead = b""
        self._loop = asyncio.get_running_loop()
        self.received = 0
        self.sent = 0
        connected.setblocking(False)

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        data = await self._loop.sock_recv(self._socket, CHUNK_BYTES)
        self.received += len(data)
        return data

    def put_back(self, data: bytes) -> None:
        """Have bytes read again by the next `read`."""
        self._ahead = data + self._ahead

    async def write(self, data: bytes) -> None:
        """Send all of the bytes."""
        await self._loop.sock_sendall(self._socket, data)
        self.sent += len(data)

    def end_writing(self) -> None:
        """Let the other end read end-of-file; what it sends is still read."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

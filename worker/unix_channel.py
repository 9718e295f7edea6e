"""The reply channel of a client at the worker's Unix socket: each message is one line of JSON."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import orjson

from sandbox.run.reply_channel import Message

SEND_BYTES = 256 * 1024
LENGTH_BYTES = 4


class UnixChannel:
    """A `ReplyChannel` on a connected stream socket in blocking mode.

    `has_read_ahead` returns whether the reader of the socket holds bytes that follow the request: a client that
    sends a request and leaves at once has both read by one recv().
    """

    def __init__(self, sock: socket.socket, has_read_ahead: Callable[[], bool] = lambda: False) -> None:
        self._sock = sock
        self._has_read_ahead = has_read_ahead
        self._unsent = bytearray()

    def send(self, *messages: Message) -> None:
        """Send one line for each message, behind what is unsent. Raises OSError."""
        if self._unsent:
            self._sock.sendall(self._unsent)
            self._unsent.clear()
        self._sock.sendall(_lines(messages))

    def push(self, *messages: Message) -> None:
        """Send as much as the socket takes now and keep the rest."""
        self._unsent += _lines(messages)
        self.flush()

    def send_piece(self, data: bytes) -> None:
        """Send bytes with their length in front; an empty piece ends them. Raises OSError."""
        self._sock.sendall(len(data).to_bytes(LENGTH_BYTES, "big") + data)

    def flush(self) -> None:
        """Send as much of what is unsent as the socket takes now."""
        with contextlib.suppress(OSError):
            while self._unsent:
                sent = self._sock.send(memoryview(self._unsent)[:SEND_BYTES], socket.MSG_DONTWAIT)
                del self._unsent[:sent]

    @property
    def unsent_bytes(self) -> int:
        """Return the bytes that the socket has not taken yet."""
        return len(self._unsent)

    def closed_fd(self) -> int:
        """Return the socket's descriptor, -1 when it was closed on this side."""
        return self._sock.fileno()

    def has_left(self) -> bool:
        """Return whether the client has sent anything since its request: it may only send that it leaves."""
        if self._has_read_ahead():
            return True
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False


def _lines(messages: tuple[Message, ...]) -> bytes:
    return b"".join([orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE) for message in messages])

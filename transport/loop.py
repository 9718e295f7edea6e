"""The event loop of a link, and its connection: all that one turn of the loop publishes is sent by one system call.

The library sends each frame of a message by itself, and only when the event loop has found that the socket takes
bytes. That is three system calls and one more turn of the loop for each message, of which a short run has three.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Protocol

from pika.adapters.select_connection import IOLoop, SelectConnection

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of one read: a whole message of a stream, where the library would read 4096.
READ_BYTES = 64 * 1024


class FdLoop(Protocol):
    """The part of the event loop that watches descriptors."""

    READ: int
    WRITE: int

    def add_handler(self, fd: int, handler: Callable[[int, int], None], events: int) -> None:
        """Call `handler(fd, events)` when one of `events` happens, or a hang-up."""

    def update_handler(self, fd: int, events: int) -> None:
        """Watch for other events."""

    def remove_handler(self, fd: int) -> None:
        """Watch no more."""


class LinkLoop(IOLoop):  # type: ignore[misc]  # the library has no types
    """An event loop that calls `at_end_of_turn` when it has handled what has happened."""

    at_end_of_turn: Callable[[], None] | None = None

    def process_timeouts(self) -> None:
        """Handle callbacks and timers, which come last in each turn."""
        super().process_timeouts()
        if self.at_end_of_turn is not None:
            self.at_end_of_turn()


class JoiningConnection(SelectConnection):  # type: ignore[misc]  # the library has no types
    """A connection that keeps what is published until `flush`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # the library's
        self._unsent: list[bytes] = []
        super().__init__(*arguments, **options)

    def read_at_once(self) -> None:
        """Read all that is there by one call at each turn, without a second one that finds nothing.

        TLS needs the second one: the event loop does not see bytes that were decrypted and not yet read.
        """
        transport = self._transport
        if not isinstance(transport._sock, ssl.SSLSocket):
            transport._MAX_RECV_BYTES, transport._MAX_CONSUME_BYTES = READ_BYTES, 1

    def _output_marshaled_frames(self, marshaled_frames: list[bytes]) -> None:
        self._unsent += marshaled_frames

    def flush(self) -> None:
        """Send what was published; the event loop sends what the socket does not take now."""
        if not self._unsent:
            return
        data = b"".join(self._unsent)
        self._unsent.clear()
        transport = self._transport
        if transport is None:  # the connection is lost
            return
        sent = 0
        if transport.get_write_buffer_size() == 0 and not isinstance(transport._sock, ssl.SSLSocket):
            try:
                sent = transport._sock.send(data)
            except OSError:  # it takes nothing now, or the loop finds that it is closed
                sent = 0
        self.bytes_sent += sent
        if sent < len(data):
            super()._output_marshaled_frames([data[sent:]])

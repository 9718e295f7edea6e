"""The connection over which a client of the worker is answered, without its transport.

Live runs and the worker's request handlers know this interface alone; each transport has an implementation of it
in `worker/`.
"""

from __future__ import annotations

import select
from typing import Any, Protocol

#: The events of poll() for `ReplyChannel.closed_fd` after the client has disconnected.
HUNG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR

#: One JSON object; its values may be anything that orjson encodes, dataclasses included.
Message = dict[str, Any]


class ReplyChannel(Protocol):
    """Messages to one client, in the order in which they were given.

    One thread sends; others may wait on `closed_fd`.
    """

    def send(self, *messages: Message) -> None:
        """Send messages, behind all that was pushed, and wait until they are taken. Raises OSError."""

    def push(self, *messages: Message) -> None:
        """Send messages without waiting; what is not taken is kept and counts as unsent.

        Raises nothing: poll() reports of `closed_fd` that the client has hung up.
        """

    def send_piece(self, data: bytes) -> None:
        """Send bytes behind a message and wait until they are taken; none end them. Raises OSError."""

    def flush(self) -> None:
        """Send what can be sent now of what is unsent, without waiting."""

    @property
    def unsent_bytes(self) -> int:
        """Return the bytes that were pushed and not taken yet."""

    def closed_fd(self) -> int:
        """Return a descriptor for poll(): HUNG_UP once the client has hung up, POLLOUT when `flush` can send.

        A transport that shares one connection between channels can return an end of a socket pair, and close the
        other end when the client is gone. Negative when the channel was closed on this side.
        """

    def has_left(self) -> bool:
        """Return whether the client announced that it hangs up. One that did not has died."""

"""Let a handler take its connection over, for what is no HTTP any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from flask import Request

#: Environ key of the server's function that hands over the connection.
TAKE_OVER_KEY = "runyard.take_over"


def can_take_over(request: Request) -> bool:
    """Return whether the server lets connections be taken over."""
    return TAKE_OVER_KEY in request.environ


def take_over(request: Request) -> tuple[socket.socket, bytes]:
    """Return the request's connection, which the caller closes, and what was read beyond the request.

    Nothing is answered by the server then.
    """
    take: Callable[[], tuple[socket.socket, bytes]] = request.environ[TAKE_OVER_KEY]
    return take()

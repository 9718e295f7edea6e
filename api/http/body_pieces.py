"""The body of a call as it arrives: a file, an archive or input. It has no total time, but must not trickle."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import request

from api.errors import ApiError
from api.http.body import arrival
from config.pieces import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The least bytes, or the whole rest, in each period: a sender slower than 1 KiB/s holds a thread for nothing.
STRETCH_BYTES = 64 * 1024
STRETCH_S = 64.0


def body_pieces() -> Iterator[bytes]:
    """Yield the body of the request as it arrives. Raises ApiError 400 when it is cut, 408 when it is too slow.

    The time in which nobody reads, because a process or a disk is busy, is not the sender's.
    """
    stream = request.environ["wsgi.input"]
    length = request.content_length
    if length is None and "HTTP_TRANSFER_ENCODING" not in request.environ:
        return
    got, stretch, left_s = 0, 0, STRETCH_S
    while length is None or got < length:
        began = time.monotonic()
        arrival(request, left_s)
        try:
            piece = stream.read(PIECE_BYTES if length is None else min(PIECE_BYTES, length - got))
        except Exception as e:
            raise ApiError(400, "The body could not be read.", code="incomplete_body") from e
        finally:
            arrival(request, None)
        left_s -= time.monotonic() - began
        if not piece:
            break
        got, stretch = got + len(piece), stretch + len(piece)
        if stretch >= STRETCH_BYTES:
            stretch, left_s = 0, STRETCH_S
        yield piece
    if left_s <= 0:
        raise ApiError(408, "The body arrives too slowly.", code="request_timeout")
    if length is not None and got < length:
        raise ApiError(400, "The body ended before its Content-Length.", code="incomplete_body")

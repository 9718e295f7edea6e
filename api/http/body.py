"""The body of a request: bounded in size, drained when refused, and read as strict JSON.

Strict: UTF-8 without a mark, one object, no NaN or Infinity, no lone surrogate, nothing behind it. The
parser itself bounds the depth (1024) without recursing on the interpreter's stack. A name given twice counts
with its last value, as in every common reader.
"""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Callable
from threading import Semaphore
from typing import IO, TYPE_CHECKING, Any, cast

import orjson

from api.errors import ApiError
from api.http.concurrency import RETRY_S
from api.http.json_problem import problem
from config.turn import waiting
from protocol.job import MAX_BODY_BYTES

if TYPE_CHECKING:
    from flask import Request

log = logging.getLogger(__name__)

#: The most bytes of a rejected body that are read and discarded, so that its sender reads the answer.
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_STEP_BYTES = 1024 * 1024
DRAIN_S = 15.0
#: The same for a client that may not send at all: it gets an answer, but holds no thread.
DRAIN_UNAUTHENTICATED_S = 2.0
#: Environ key of the server's function `arrival(seconds | None)`: the time limit for the rest of a request.
ARRIVAL_KEY = "runyard.arrival"
#: Of a body that comes without a token that is known.
UNAUTHENTICATED_BODY_BYTES = 16 * 1024
#: The same where a request may bring a program without a token (a dialect's).
KEYLESS_BODY_BYTES = 1024 * 1024
#: Environ key of a collected body's end (`Body`); None for a body that the handler streams.
BODY_KEY = "runyard.body"
#: Parsed JSON can take twenty times its own size: large bodies are parsed two at a time, not sixty.
LARGE_BODY_BYTES = 1024 * 1024
_LARGE_BODIES = Semaphore(2)
#: A large body holds at most so many values, counted by what stands between them. Sixteen megabytes of brackets
#: would become hundreds of megabytes of lists.
MOST_VALUES = 50_000
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BETWEEN = (b",", b"[", b"{")
#: The kinds of JSON values that a body must not be, by the type that the parser makes of them.
_KINDS = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


class Body(enum.Enum):
    """The ways in which the collection of a body ends. All but WHOLE must be refused."""

    WHOLE = "whole"
    CUT = "cut"
    SLOW = "slow"
    CROWDED = "crowded"
    TOO_LARGE = "too large"
    OVER = "over"


def read_json_body(request: Request) -> bytes:
    """Return the bytes of a body whose content type is JSON. Raises ApiError 400, 413 or 415."""
    _check_type(request)
    return read_body(request)


def read_body(request: Request) -> bytes:
    """Return the whole body, at most MAX_BODY_BYTES. A larger one is drained within bounds and refused."""
    if (refused := _REFUSED.get(request.environ.get(BODY_KEY, Body.WHOLE))) is not None:
        raise refused()
    stream = cast("IO[bytes]", request.environ["wsgi.input"])
    length = request.content_length
    chunked = "HTTP_TRANSFER_ENCODING" in request.environ
    if length is None and not chunked:
        return b""
    if length is not None and length > MAX_BODY_BYTES:
        drain(request)
        raise _too_large()
    data = _read(stream, MAX_BODY_BYTES + 1 if length is None else length)
    arrival(request, None)
    if len(data) > MAX_BODY_BYTES:
        drain(request)
        raise _too_large()
    if length is not None and len(data) < length:
        raise ApiError(400, "The body ended before its Content-Length.", code="incomplete_body")
    return data


def drain(request: Request, seconds: float = DRAIN_S) -> None:
    """Read what is left of a body, within bounds, and throw it away; one that was collected has been read."""
    if request.environ.get(BODY_KEY) is not None:
        return
    arrival(request, seconds)
    stream = cast("IO[bytes]", request.environ["wsgi.input"])
    left = DRAIN_BYTES
    length = request.content_length
    if length is not None:
        left = min(left, length)
    elif "HTTP_TRANSFER_ENCODING" not in request.environ:
        return
    try:
        while left > 0 and (piece := stream.read(min(left, DRAIN_STEP_BYTES))):
            left -= len(piece)
    except Exception as e:  # noqa: BLE001  # a broken body is being refused already
        log.debug("the rest of a body could not be read: %s", type(e).__name__)


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse strict JSON into an object. Raises ApiError 400."""
    if not data:
        raise _invalid("The body is empty: it must be a JSON object.")
    try:
        value = _load(data)
    except orjson.JSONDecodeError as e:
        raise _invalid(problem(data, e)) from e
    if not isinstance(value, dict):
        raise _invalid(f"The body must be a JSON object, and is {_KINDS[type(value)]}.")
    return value


def arrival(request: Request, seconds: float | None) -> None:
    """Limit the time in which the rest of a request must arrive; None ends the limit."""
    allow: Callable[[float | None], None] | None = request.environ.get(ARRIVAL_KEY)
    if allow is not None:
        allow(seconds)


def _load(data: bytes) -> object:
    if len(data) < LARGE_BODY_BYTES:
        return orjson.loads(data)
    _check_values(data)
    with waiting():
        _LARGE_BODIES.acquire()
    try:
        return orjson.loads(data)
    finally:
        _LARGE_BODIES.release()


def _check_values(data: bytes) -> None:
    """Count the values of a body before any of them is made. Raises ApiError 400."""
    if sum(data.count(byte) for byte in _BETWEEN) <= MOST_VALUES:
        return
    # At least so many strings: each has a quote that is not escaped at its beginning.
    if data.count(b'"') - data.count(b'\\"') <= 2 * MOST_VALUES:
        bare = _STRING.sub(b"", data)
        if sum(bare.count(byte) for byte in _BETWEEN) <= MOST_VALUES:
            return
    raise ApiError(400, f"The body holds more than {MOST_VALUES} values.", code="too_many")


def _read(stream: IO[bytes], wanted: int) -> bytes:
    try:
        return stream.read(wanted)
    except Exception as e:
        # A malformed chunk, or a client that disconnected: each exception of the server is a fault of the body.
        raise ApiError(400, "The body could not be read.", code="incomplete_body") from e


def _check_type(request: Request) -> None:
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        drain(request)
        raise ApiError(
            415,
            "The body must not be compressed.",
            code="unsupported_content_encoding",
            param="Content-Encoding",
        )
    mimetype = request.mimetype
    # Without a type the body is parsed as JSON. A declared other type is believed, and rejected.
    if mimetype in ("", "application/json") or (mimetype.startswith("application/") and mimetype.endswith("+json")):
        return
    drain(request)
    raise ApiError(
        415,
        "The body must be JSON: send the header 'Content-Type: application/json'.",
        code="unsupported_media_type",
        param="Content-Type",
    )


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_json")


def _too_large() -> ApiError:
    return ApiError(
        413, f"The body is larger than the maximum of {MAX_BODY_BYTES} bytes.", code="request_too_large"
    )


def _too_slow() -> ApiError:
    return ApiError(408, "The body did not arrive in time.", code="request_timeout")


def _too_large_unauthenticated() -> ApiError:
    message = (
        f"Without a valid token a body has at most {UNAUTHENTICATED_BODY_BYTES} bytes, "
        f"and {KEYLESS_BODY_BYTES} where a program may be sent without one."
    )
    return ApiError(413, message, code="request_too_large")


def _crowded() -> ApiError:
    return ApiError(
        429,
        "The request bodies being received use all the memory they may. Try again later.",
        code="too_many_runs",
        retry_after_s=RETRY_S,
    )


#: The error for a body that the server did not collect completely. A cut body is noticed by its length.
_REFUSED: dict[Body | None, Callable[[], ApiError]] = {
    Body.SLOW: _too_slow,
    Body.TOO_LARGE: _too_large_unauthenticated,
    Body.CROWDED: _crowded,
    Body.OVER: _too_large,
}

"""From a Call to httpx and back: what both drivers share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

import httpx

from runyard._steps import Call, Reply
from runyard._version import __version__
from runyard.config import Config
from runyard.errors import ConnectionFailed

#: To connect, and without a byte while an answer is awaited.
CONNECT_S = 10.0
SILENCE_S = 60.0
PIECE_BYTES = 64 * 1024
#: The request never reached the service: any call is repeated.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def arguments(call: Call, config: Config) -> dict[str, Any]:
    """Build the keyword arguments for `build_request`."""
    headers = {"User-Agent": f"runyard-python/{__version__}", **call.headers}
    if call.with_key and config.api_key is not None:
        headers["Authorization"] = f"Bearer {config.api_key}"
    silence_s = SILENCE_S if call.silence_s is None else call.silence_s
    found: dict[str, Any] = {
        "method": call.method,
        "url": call.path if call.path.startswith(("http://", "https://")) else config.url + call.path,
        "headers": headers,
        "timeout": httpx.Timeout(silence_s, connect=CONNECT_S),
    }
    if call.query:
        found["params"] = dict(call.query)
    if call.upload is not None:
        found["files"] = {"file": (call.upload.name, call.upload.content, "application/octet-stream")}
        if call.upload.purpose is not None:
            found["data"] = {"purpose": call.upload.purpose}
    elif call.content is not None:
        size = call.content.content.seek(0, os.SEEK_END)
        call.content.content.seek(0)
        headers["Content-Length"] = str(size)
        found["content"] = call.content.content
    elif call.body is not None:
        found["content"] = call.body
    return found


async def pieces(content: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the bytes of a file as httpx requires them for asyncio."""
    while data := content.read(PIECE_BYTES):
        yield data


def reply(response: httpx.Response, body: bytes = b"") -> Reply:
    """Convert an httpx response to a Reply. Header names are case-insensitive."""
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def failure(error: Exception, config: Config) -> ConnectionFailed:
    """Describe an httpx exception in one sentence."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        what = (
            f"cannot connect to {config.url}: {_reason(error)}; is the service running, and is RUNYARD_URL correct?"
        )
    elif isinstance(error, httpx.TimeoutException):
        what = f"{config.url} did not answer in time"
    else:
        what = f"the connection to {config.url} was lost: {_reason(error)}"
    return ConnectionFailed(what, sent=not isinstance(error, _NOT_SENT))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__

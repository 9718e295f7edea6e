"""From a Call to httpx and back: what both drivers share."""

from __future__ import annotations

from typing import Any

import httpx

from runyard._steps import Call, Reply
from runyard._version import __version__
from runyard.config import Config
from runyard.errors import ConnectionFailed

#: To connect, and without a byte while an answer is awaited.
CONNECT_S = 10.0
SILENCE_S = 60.0
#: Never reached the service: made again whatever the call.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def arguments(call: Call, config: Config) -> dict[str, Any]:
    """The keyword arguments of `build_request`."""
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
    elif call.body is not None:
        found["content"] = call.body
    return found


def reply(response: httpx.Response, body: bytes = b"") -> Reply:
    """An answer; httpx's headers are found whatever their case."""
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def failure(error: Exception, config: Config) -> ConnectionFailed:
    """What httpx raised, in one sentence."""
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

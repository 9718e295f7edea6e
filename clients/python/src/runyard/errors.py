"""Everything that can go wrong, as one tree.

RunyardError
├── ConfigError        the address, the key or the config file cannot be used
├── ConnectionFailed   no answer: refused, cut, or too late
│   └── StreamLost     a run's events broke off and could not be resumed; has the last one's number
├── ProtocolError      the answer is not of this API
├── DownloadError      the bytes that came are not the file's
├── SaveError          an artifact cannot be written where it was to go
└── ApiError           the service refused: message, param, code, status, request id
    ├── BadRequest           400, 413, 415, 422: the request has to change
    ├── AuthenticationError  401: no key, or not one of the service's
    ├── PermissionDenied     403: a link that is not good any more
    ├── NotFound             404: unknown, forgotten, or another key's
    ├── Conflict             409: not in the state that this needs
    ├── RateLimited          429: this key's own rate, quota or share
    └── ServerError          5xx: the service failed
        └── Unavailable      503: no place or no worker now; nothing was started
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The most bytes that an error quotes of a body that is not the API's.
_SHOWN_BYTES = 200


class RunyardError(Exception):
    """The root of everything that this package raises on purpose."""


class ConfigError(RunyardError):
    """The address, the key or the config file cannot be used."""


class ConnectionFailed(RunyardError):
    """No answer came: the connection was refused, cut, or nothing arrived in time."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        #: False when the request surely never reached the service.
        self.sent = sent


class StreamLost(ConnectionFailed):
    """The events of a run broke off and could not be resumed. The run itself continues."""

    def __init__(self, message: str, *, run_id: str, after: int) -> None:
        super().__init__(message)
        self.run_id = run_id
        #: The number of the last event that arrived: go on with `runs.events(run_id, after=after)`.
        self.after = after


class ProtocolError(RunyardError):
    """The answer is not of this API: it comes from another server, or from a proxy."""


class DownloadError(RunyardError):
    """The bytes that came are not the file's: another length or another hash."""


class SaveError(RunyardError):
    """An artifact cannot be written where it was to go."""


class ApiError(RunyardError):
    """The service refused the request. `message` names the field and its bound, `code` is stable."""

    def __init__(  # one argument per field of the envelope
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        request_id: str | None = None,
        run_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        #: The `type` of the API's error object.
        self.kind = kind
        self.request_id = request_id
        #: The run that the error is about, where there is one.
        self.run_id = run_id
        self.retry_after_s = retry_after_s


class BadRequest(ApiError):
    """400, 413, 415, 422: the request has to change before it can be answered."""


class AuthenticationError(ApiError):
    """401: no key was sent, or none that the service knows."""


class PermissionDenied(ApiError):
    """403: a signed link that is expired or forged, or a call that this key may not make."""


class NotFound(ApiError):
    """404: unknown, forgotten, or another key's."""


class Conflict(ApiError):
    """409: it is not in the state that this needs."""


class RateLimited(ApiError):
    """429: this key's own rate, quota or share; `retry_after_s` is the time until the next attempt."""


class ServerError(ApiError):
    """5xx: the service failed, not the request."""


class Unavailable(ServerError):
    """503: no place, no worker, or a language that is not built yet; nothing was started."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
    503: Unavailable,
}


def api_error(status: int, headers: Mapping[str, str], body: bytes, retry_after_s: float | None) -> ApiError:
    """Build the exception for an error reply. A body that is not the API's envelope is quoted in part."""
    parsed = _object(body)
    found = parsed.get("error")
    error: dict[str, Any] = found if isinstance(found, dict) else {}
    kind = _BY_STATUS.get(status) or (ServerError if status >= 500 else BadRequest)
    return kind(
        status,
        _text(error.get("message")) or f"the service answered {status}: {_excerpt(body)}",
        code=_text(error.get("code")),
        param=_text(error.get("param")),
        kind=_text(error.get("type")),
        request_id=headers.get("x-request-id"),
        run_id=_text(parsed.get("run_id")),
        retry_after_s=retry_after_s,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _excerpt(body: bytes) -> str:
    shown = body[:_SHOWN_BYTES].decode(errors="replace").strip()
    return repr(shown) if shown else "nothing"

"""Every error the API answers, in one shape: `{"error": {"message", "type", "param", "code"}}`.

ApiError
├── what a route or a check raises, with an HTTP status and a stable code
└── what the HTTP layer raises itself (unknown path, wrong method) is turned into the same shape

Nothing else leaves the process: an unexpected exception is logged and answered as `internal_error`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from dispatch import ClientGone
from records.errors import RecordsUnavailable, UnknownCursor
from storage.errors import BlobDamaged, BlobMissing, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.result import Refusal

log = logging.getLogger(__name__)

JSON = "application/json"
#: Never sent: only the access log shows this status (the custom of other servers for a disconnected client).
CLIENT_GONE = 499
#: Failures below the API that `of_failure` turns into an ApiError.
FAILURES = (RecordsUnavailable, StorageUnavailable, BlobMissing, BlobDamaged)

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
#: Errors that the HTTP layer itself may raise.
_HTTP = {
    400: ("The request could not be understood.", "bad_request"),
    404: ("No such path.", "not_found"),
    405: ("Method not allowed.", "method_not_allowed"),
    408: ("The request did not arrive in time.", "request_timeout"),
    413: ("The request is too large.", "request_too_large"),
    414: ("The request line is too long.", "uri_too_long"),
    415: ("The body must be JSON.", "unsupported_media_type"),
    417: ("The expectation cannot be met.", "expectation_failed"),
    431: ("The headers are too large.", "headers_too_large"),
    501: ("This transfer coding is not supported.", "not_implemented"),
}
_INTERNAL = ("The service failed to answer this request.", "internal_error")


@dataclass(frozen=True, slots=True)
class ErrorObject:
    """The `error` of an envelope, and of a run whose status is `error`."""

    message: str
    type: str
    param: str | None
    code: str

    def to_json(self) -> dict[str, Any]:
        """Return the object with its fields in the order of API.md."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class ApiError(Exception):
    """An answer that is an error. The message is for the client: it names the field and its bound."""

    def __init__(  # one argument per field of the envelope
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = ErrorObject(message, error_type(status), param, code)
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)
        self.run_id = run_id

    @classmethod
    def of_run(cls, run_id: str, error: ErrorObject) -> ApiError:
        """Return the error for a synchronous caller whose run ended with status `error`.

        It is the service's fault, unless the packages that were asked for cannot be provided.
        """
        raised = cls(
            400 if error.code.startswith("package_") else 500, error.message, code=error.code, run_id=run_id
        )
        raised.error = error
        return raised

    @classmethod
    def from_refusal(cls, refusal: Refusal) -> ApiError:
        """Return the error for a refusal by the worker."""
        retry_after_s = refusal.retry_after_s
        if retry_after_s is None and refusal.status in (429, 503):
            retry_after_s = 1
        return cls(
            refusal.status,
            refusal.message,
            code=refusal.code,
            param=refusal.param,
            retry_after_s=retry_after_s,
        )


def invalid(message: str, *, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """Return an ApiError 400."""
    return ApiError(400, message, code=code, param=param)


def of_failure(e: Exception) -> ApiError:
    """Return the answer to one of FAILURES, and log it where the log does not have it yet."""
    if isinstance(e, RecordsUnavailable):
        return ApiError(
            503,
            "The database is unavailable; nothing was started.",
            code="records_unavailable",
            retry_after_s=e.retry_after_s,
        )
    if isinstance(e, StorageUnavailable):
        log.warning("storage: %s", e, extra={"cause": repr(e.__cause__)})
        return ApiError(
            503, "The storage is unavailable; nothing was stored.", code="storage_unavailable", retry_after_s=5
        )
    log.error("storage: %s", e)
    return ApiError(500, "The bytes of this file are lost or damaged.", code="file_damaged")


def error_type(status: int) -> str:
    """Return the `type` of an error for its status."""
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def http_error(status: int) -> ErrorObject:
    """Return the error object of a bare HTTP status."""
    message, code = _HTTP.get(status, _HTTP[400] if status < 500 else _INTERNAL)
    return ErrorObject(message, error_type(status), None, code)


def envelope(error: ErrorObject, *, run_id: str | None = None) -> bytes:
    """Return the body of an error reply, which ends in a newline as every JSON document of the API does."""
    body: dict[str, Any] = {"error": error.to_json()}
    if run_id is not None:
        body["run_id"] = run_id
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)


def init_app(app: Flask) -> None:
    """Answer every error of the application in the one shape."""
    app.register_error_handler(ApiError, render_envelope)
    app.register_error_handler(ClientGone, _client_gone)
    for failure in FAILURES:
        app.register_error_handler(failure, lambda e: render_envelope(of_failure(e)))
    app.register_error_handler(UnknownCursor, _unknown_cursor)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(Exception, _unexpected)


def answer_error(e: Exception, render: Callable[[ApiError], Response]) -> Response:
    """Return the answer to any exception of a route in the shape that `render` gives to an error."""
    if isinstance(e, ClientGone):
        return _client_gone(e)
    if isinstance(e, ApiError):
        return render(e)
    if isinstance(e, FAILURES):
        return render(of_failure(e))
    if isinstance(e, HTTPException):
        return render(_of_http(e))
    log.error("request failed", exc_info=e)
    error = http_error(500)
    return render(ApiError(500, error.message, code=error.code))


def render_envelope(e: ApiError) -> Response:
    """Return an error in the one shape."""
    body = envelope(e.error, run_id=e.run_id)
    return Response(body, e.status, headers=e.headers, content_type=JSON)


def _client_gone(_e: ClientGone) -> Response:
    return Response(status=CLIENT_GONE)


def _unknown_cursor(_e: UnknownCursor) -> Response:
    return render_envelope(invalid("after: is not an id of this list", param="after", code="invalid_cursor"))


def _http_exception(e: HTTPException) -> Response:
    return render_envelope(_of_http(e))


def _of_http(e: HTTPException) -> ApiError:
    """Return what the HTTP layer raised as an error of this API."""
    status = e.code or 500
    error = http_error(status)
    if isinstance(e, MethodNotAllowed) and e.valid_methods:
        allowed = ", ".join(sorted(e.valid_methods))
        return ApiError(
            status, f"Method not allowed; allowed: {allowed}.", code=error.code, headers={"Allow": allowed}
        )
    return ApiError(status, error.message, code=error.code)


def _unexpected(e: Exception) -> Response:
    log.error("request failed", exc_info=e)
    return Response(envelope(http_error(500)), 500, content_type=JSON)

"""Describe RunTools' answers for the specification: schemas and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.openapi.decorator import Answer, Json

if TYPE_CHECKING:
    from api.openapi.decorator import Schema

_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEXT: Schema = {"type": "string"}
_CODE: Schema = {"type": ["integer", "null"]}


def object_of(**properties: Schema) -> Schema:
    """Return the schema of an object with these properties, all of them required."""
    return {"type": "object", "required": list(properties), "properties": properties}


_STAGE: Schema = {"stdout": _TEXT, "stderr": _TEXT, "code": _CODE, "time_ms": _COUNT}
_FIRST = object_of(
    data=object_of(
        stdout=_TEXT,
        stderr=_TEXT,
        exitCode={"type": "integer", "description": "128 and the signal's number if the program was killed."},
        executionTime={**_COUNT, "description": "Milliseconds of the program."},
        timedOut={"type": "boolean"},
    ),
    meta=object_of(requestId=_TEXT),
)
_LATER = object_of(
    language=_TEXT,
    version=_TEXT,
    session_id={"type": "null"},
    run=object_of(**_STAGE, signal={"type": ["string", "null"]}, memory_kb=_COUNT),
)
_LATER["properties"]["compile"] = {
    **object_of(**_STAGE, memory_kb={"type": "null"}),
    "description": "For compiled languages.",
}
RESULT: Schema = {"anyOf": [_FIRST, _LATER]}
_NAMES: Schema = {"type": "array", "items": _TEXT}
RUNTIMES: Schema = object_of(
    data={"type": "array", "items": object_of(runtime=_TEXT, language=_TEXT, version=_TEXT, aliases=_NAMES)},
    meta=object_of(hasMore={"const": False}, nextCursor={"type": "null"}),
)
_ERROR = object_of(error=object_of(code=_TEXT, message=_TEXT, requestId=_TEXT))

_REQUEST_ID = "req_7Hq2mXbW9sKcR4tYvLzA3nFd"
REQUESTS: dict[str, Any] = {
    "first generation": {"runtime": "python", "code": "print(1+1)", "timeout": 30_000},
    "files": {"runtime": "python", "files": {"main.py": "import a", "a.py": "print(1)"}, "entrypoint": "main.py"},
    "later generation": {
        "language": "python",
        "version": "*",
        "files": [{"name": "main.py", "content": "print(input())"}],
        "stdin": "hello",
    },
}
RESULTS: dict[str, Any] = {
    "first generation": {
        "data": {"stdout": "2\n", "stderr": "", "exitCode": 0, "executionTime": 14, "timedOut": False},
        "meta": {"requestId": _REQUEST_ID},
    },
    "later generation": {
        "language": "python",
        "version": "3.13.5",
        "session_id": None,
        "run": {"stdout": "hello\n", "stderr": "", "code": 0, "signal": None, "time_ms": 14, "memory_kb": 9216},
    },
}
RUNTIMES_EXAMPLE: dict[str, Any] = {
    "one": {
        "data": [{"runtime": "python", "language": "python", "version": "3.13.5", "aliases": ["py", "python3"]}],
        "meta": {"hasMore": False, "nextCursor": None},
    }
}
_ERRORS = {
    400: ("Invalid request: the message names the field.", "invalid_request", "runtime: give runtime or language"),
    401: ("The key is missing or invalid.", "unauthorized", "Invalid token."),
    403: ("The plan of the key no longer exists.", "forbidden", "The plan of this key no longer exists."),
    404: ("There is no such sandbox.", "not_found", "Sandbox not found"),
    408: ("The body did not arrive in time.", "request_timeout", "The body did not arrive in time."),
    409: (
        "It is not in the state that this needs.",
        "conflict",
        "name: a live session of this name has another language",
    ),
    413: ("The body is too large.", "payload_too_large", "The body is too large."),
    415: ("The body is not said to be JSON.", "unsupported_media_type", "The body must be JSON."),
    429: ("The rate limit, the quota or the share of the key is used up.", "rate_limited", "Rate limit exceeded."),
    500: ("The service failed, not the request.", "internal_error", "The service failed to answer this request."),
    503: ("Temporarily unavailable; nothing was started.", "unavailable", "The worker cannot be reached."),
}


def errors(*statuses: int) -> dict[int, Answer]:
    """Return the answers of those statuses."""
    return {status: _error(*_ERRORS[status]) for status in statuses}


def _error(description: str, code: str, message: str) -> Answer:
    example = {"error": {"code": code, "message": message, "requestId": _REQUEST_ID}}
    return Json(description, _ERROR, {code: example})

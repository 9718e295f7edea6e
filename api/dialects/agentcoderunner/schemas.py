"""Describe agent-coderunner's answers for the specification: schemas and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.openapi.decorator import Answer, Json

if TYPE_CHECKING:
    from api.openapi.decorator import Auth, Schema

#: Calls that are served without a key where self-service is on, and those that never are.
ANYBODY: tuple[Auth, ...] = ("none", "key", "api_key", "query_key")
KEY: tuple[Auth, ...] = ("key", "api_key", "query_key")

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
EXECUTION_ID: Schema = {"type": "string", "pattern": "^exec-[A-Za-z0-9]{24,64}$"}
SESSION_ID: Schema = {"type": "string", "pattern": "^sess-[a-z2-7]{26}$"}


def object_of(optional: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """Return the schema of an object with these properties, all of them required but those named first."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def page_of(name: str, row: Schema) -> Schema:
    """Return the schema of a page of a list."""
    cursor: Schema = {"type": ["string", "null"], "description": "The `cursor` of the next page."}
    return object_of(**{name: {"type": "array", "items": row}}, hasMore=FLAG, nextCursor=cursor)


_CODE: Schema = {
    "type": ["integer", "null"],
    "description": "128 and the signal's number if the program was killed; null while it runs.",
}
_OUTPUT: dict[str, Schema] = {
    "stdout": {**TEXT, "description": "Without its last newline, if it ends in one."},
    "stderr": TEXT,
}
_FACTS: dict[str, Schema] = {
    "duration": {**COUNT, "description": "Milliseconds of the program."},
    "timedOut": FLAG,
    "language": TEXT,
    "truncated": {"const": True, "description": "There only if an output was cut at its limit."},
}
_HISTORY: dict[str, Schema] = {
    "status": TEXT,
    "sessionId": {"type": ["string", "null"]},
    "createdAt": TIME,
}
_CUT = ("truncated",)
RESULT: Schema = object_of(_CUT, id=EXECUTION_ID, exitCode=_CODE, **_OUTPUT, **_FACTS)
RECORDED: Schema = object_of(_CUT, id=EXECUTION_ID, exitCode=_CODE, **_OUTPUT, **_FACTS, **_HISTORY)
EXECUTIONS: Schema = page_of("executions", object_of(_CUT, id=EXECUTION_ID, exitCode=_CODE, **_FACTS, **_HISTORY))
MADE_SESSION: Schema = object_of(sessionId=SESSION_ID, language=TEXT)
SESSION: Schema = object_of(
    sessionId=SESSION_ID,
    language=TEXT,
    status={"enum": ["creating", "ready", "busy", "frozen", "paused"]},
    executions=COUNT,
    createdAt=TIME,
    lastActiveAt=TIME,
    expiresAt={"type": ["string", "null"], "description": "When it ends if nothing happens in it."},
)
SESSIONS: Schema = page_of("sessions", SESSION)
ENDED_SESSION: Schema = object_of(sessionId=SESSION_ID, deleted={"const": True})
FILE: Schema = object_of(
    path={**TEXT, "description": "Relative to the session's directory of work."},
    type={"enum": ["file", "directory", "symlink", "other"]},
    size={**COUNT, "description": "Bytes."},
    modifiedAt=TIME,
)
FILES: Schema = object_of(files={"type": "array", "items": FILE}, truncated=FLAG)
REMOVED_FILE: Schema = object_of(path=TEXT, deleted={"const": True})
NEW_KEY: Schema = object_of(apiKey=TEXT, key={**TEXT, "description": "The same."}, plan=TEXT)
LANGUAGES: Schema = object_of(languages={"type": "array", "items": object_of(id=TEXT, name=TEXT, version=TEXT)})
_ERROR = object_of(error=TEXT, message=TEXT)

_ID = "exec-3fZk8QmW2sLxT7vBn4RcYp1dGh6J"
_SESSION = "sess-k3v5x2mzq7ydl4awgr6tnb2c7e"
_AT = "2026-11-29T10:00:00.000Z"
REQUESTS: dict[str, Any] = {
    "documented": {"language": "python", "code": "print(sum(range(1000)))", "timeout": 5000, "stdin": ""},
    "MCP client": {"code": "console.log(6 * 7)", "language": "javascript"},
}
RESULT_EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "exitCode": 0,
    "stdout": "499500",
    "stderr": "",
    "duration": 18,
    "timedOut": False,
    "language": "python",
}
RECORDED_EXAMPLE = RESULT_EXAMPLE | {"status": "succeeded", "sessionId": None, "createdAt": _AT}
LISTED_EXAMPLE = {name: value for name, value in RECORDED_EXAMPLE.items() if name not in _OUTPUT}
SESSION_EXAMPLE: dict[str, Any] = {
    "sessionId": _SESSION,
    "language": "Python 3.13",
    "status": "ready",
    "executions": 2,
    "createdAt": _AT,
    "lastActiveAt": _AT,
    "expiresAt": "2026-11-29T10:20:00.000Z",
}
FILE_EXAMPLE: dict[str, Any] = {"path": "data/in.csv", "type": "file", "size": 12, "modifiedAt": _AT}
_ERRORS = {
    400: ("Invalid request: the message names the field and its bound.", "bad_request", "code: is required"),
    401: ("The key is missing or invalid.", "unauthorized", "Invalid token."),
    402: (
        "The executions of the plan are used up for good.",
        "payment_required",
        "This key has used all 50 runs of its plan (free); the quota does not reset.",
    ),
    403: ("Not permitted.", "forbidden", "Self-service keys are disabled: ask the operator for a key."),
    404: ("It is not there, is another key's, or has ended.", "not_found", "There is no such session."),
    405: ("That path has other methods.", "method_not_allowed", "Method not allowed; allowed: GET."),
    408: ("The body did not arrive in time.", "request_timeout", "The body did not arrive in time."),
    409: ("It is not in the state that this needs.", "conflict", "path: is not a file"),
    413: ("The body is too large.", "payload_too_large", "The file is larger than the maximum of 10485760 bytes."),
    415: ("The body is not said to be JSON.", "unsupported_media_type", "The body must be JSON."),
    429: (
        "The rate limit, the quota of the month or the share of the key is used up; see `Retry-After`.",
        "rate_limited",
        "Rate limit exceeded.",
    ),
    500: ("The service failed, not the request.", "internal_error", "The service failed to answer this request."),
    503: ("Temporarily unavailable; nothing was started.", "unavailable", "The worker cannot be reached."),
    507: ("The directory of the session is full.", "insufficient_storage", "The directory is full."),
}
#: Of every call.
_ANYWHERE = (429, 500, 503)


def errors(*statuses: int) -> dict[int, Answer]:
    """Return the answers of those statuses, and of those that every call may have."""
    return {status: _error(*_ERRORS[status]) for status in sorted({*statuses, *_ANYWHERE})}


def _error(description: str, code: str, message: str) -> Answer:
    return Json(description, _ERROR, {code: {"error": code, "message": message}})

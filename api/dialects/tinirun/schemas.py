"""Describe tinirun's answers for the specification: schemas and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.dialects.tinirun.answers import TEXT
from api.dialects.tinirun.chunks import JSON_LINES
from api.http.media import SSE
from api.openapi.decorator import JSON, Answer

if TYPE_CHECKING:
    from api.dialects.tinirun.chunks import Media
    from api.openapi.decorator import Schema

_TEXT: Schema = {"type": "string"}
_CODE: Schema = {
    "type": ["integer", "null"],
    "description": "128 and the signal's number if the program was killed; null if its time ran out.",
}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


RESULT: Schema = _object({"stdout": _TEXT, "stderr": _TEXT, "exit_code": _CODE, "timeout": {"type": "boolean"}})
_ERROR: Schema = _object({"error": {"enum": ["build_failed", "docker"]}, "message": _TEXT}, logs=_TEXT)
_CHUNK: Schema = {
    "oneOf": [
        _object({"event": {"enum": ["info", "debug", "stdout", "stderr"]}, "data": _TEXT}),
        _object({"event": {"const": "result"}, "data": RESULT}),
        _object({"event": {"const": "error"}, "data": _ERROR}),
    ]
}
_STATUS: Schema = {
    "oneOf": [
        _object({"type": {"const": "building"}}),
        _object({"type": {"const": "error"}, "error": _ERROR}),
        _object({"type": {"const": "ready"}, "tag": _TEXT, "id": _TEXT}),
    ]
}
_INFO: dict[str, Schema] = {
    "lang": _TEXT,
    "status": _STATUS,
    "created_at": {"type": "string", "format": "date-time"},
    "updated_at": {"type": "string", "format": "date-time"},
    "version": {**_TEXT, "description": "A number; each change makes the next one."},
}
INFO: Schema = _object(_INFO, description=_TEXT)
DETAIL: Schema = _object(
    {**_INFO, "code": _TEXT, "dependencies": {**_TEXT, "description": "One a line."}}, description=_TEXT
)
FUNCTIONS: Schema = {"type": "array", "items": _object({"name": _TEXT, "info": INFO})}

RESULT_EXAMPLE: dict[str, Any] = {
    "ended": {"stdout": "Hello, Ada!\n", "stderr": "", "exit_code": 0, "timeout": False}
}
INFO_EXAMPLE: dict[str, Any] = {
    "lang": "python",
    "status": {"type": "ready", "tag": "greet@1", "id": "run_7Hq2mXbW9sKcR4tYvLzA3nFd"},
    "created_at": "2026-11-29T12:00:00.000Z",
    "updated_at": "2026-11-29T12:00:00.120Z",
    "version": "1",
}
DETAIL_EXAMPLE: dict[str, Any] = INFO_EXAMPLE | {
    "code": 'def run(input: str) -> str:\n    return f"Hello, {input}!"\n',
    "dependencies": "",
}
FUNCTIONS_EXAMPLE: dict[str, Any] = {"one": [{"name": "greet", "info": INFO_EXAMPLE}]}
PROGRAMS: dict[str, Any] = {
    "python": {"code": "print(1+1)", "lang": "python"},
    "files": {
        "code": "print(open('files/a.txt').read())",
        "lang": "python",
        "files": [{"path": "a.txt", "content": "aGVsbG8="}],
        "timeout": 10,
        "mem_limit_mb": 256,
        "cpu_limit": 0.5,
    },
}
UPDATES: dict[str, Any] = {
    "python": {"code": "def run(input: str) -> str:\n    return input.upper()\n", "description": "Writes it large."}
}
CALLS: dict[str, Any] = {"greet": {"input": "Ada"}}
_STREAMED = (
    '{"event":"info","data":"Checking base image..."}\n{"event":"stdout","data":"2\\n"}\n'
    '{"event":"result","data":{"stdout":"2\\n","stderr":"","exit_code":0,"timeout":false}}\n'
)
STREAM = Answer(
    "A stream of chunks, closed by `result` or `error`.",
    {
        JSON_LINES: {
            **_TEXT,
            "description": "One chunk a line.",
            "contentMediaType": JSON,
            "contentSchema": _CHUNK,
        },
        SSE: {**_TEXT, "description": "One event a chunk, which is its `data`; no event has a name."},
    },
    {JSON_LINES: _STREAMED},
)
_MESSAGE: Schema = _object({"message": _TEXT})
_ERRORS = {
    400: "Invalid request: the message names the field. Text for dependencies and a function that is not ready.",
    401: "The key is missing or invalid: `Unauthorized`.",
    403: "The plan of the key no longer exists.",
    404: "There is no such function: `Not Found`.",
    408: "The body did not arrive in time.",
    413: "The body is too large, or the functions of the key take too much room.",
    415: "The body is not said to be JSON.",
    429: "The rate limit, the quota or the share of the key is used up.",
    500: "The service failed, not the request.",
    503: "Temporarily unavailable; nothing was started.",
}


def errors(*statuses: int) -> dict[int, Answer]:
    """Return the answers of those statuses."""
    return {status: Answer(_ERRORS[status], {JSON: _MESSAGE, TEXT: _TEXT}) for status in statuses}


def content_type(media: Media) -> str:
    """Return the content type of a stream."""
    return f"{SSE}; charset=utf-8" if media == SSE else JSON_LINES

"""Describe RunTools' sandboxes for the specification: schemas, examples and operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.dialects.runtools.sandbox_requests import ExecRequest, SandboxRequest
from api.dialects.runtools.schemas import errors, object_of
from api.openapi.decorator import JSON, Json, Operation, Query, RequestBody

if TYPE_CHECKING:
    from api.openapi.decorator import Auth, Schema

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SANDBOX = object_of(
    id={"type": "string", "pattern": "^sandbox-[a-z2-7]{26}$"},
    name={"type": ["string", "null"]},
    status={"enum": ["creating", "running", "paused", "destroyed", "failed"]},
    template=_TEXT,
    tags={"type": ["array", "object"]},
    sshReady={"type": "boolean", "description": "Whether commands can be executed; there is no SSH."},
    vncReady={"const": False},
    resources=object_of(vcpus={"type": "number"}, memory=_TEXT),
    createdAt={"type": "string", "format": "date-time"},
)
_META = object_of(requestId=_TEXT)
_ONE = object_of(data=_SANDBOX, meta=_META)
_PAGE = object_of(
    data={"type": "array", "items": _SANDBOX},
    meta=object_of(hasMore=_FLAG, nextCursor={"type": ["string", "null"]}),
)
_RESULT = object_of(
    data=object_of(
        stdout=_TEXT,
        stderr=_TEXT,
        exitCode={"type": "integer", "description": "128 and the signal's number if the command was killed."},
        executionTime={**_COUNT, "description": "Milliseconds, as `durationMs`."},
        durationMs=_COUNT,
    ),
    meta=_META,
)
_META_EXAMPLE = {"requestId": "req_7Hq2mXbW9sKcR4tYvLzA3nFd"}
_EXAMPLE: dict[str, Any] = {
    "id": "sandbox-k3v5x2mzq7ydl4awgr6tnb2c7e",
    "name": "build-runner",
    "status": "running",
    "template": "base-ubuntu",
    "tags": ["ci"],
    "sshReady": True,
    "vncReady": False,
    "resources": {"vcpus": 1.0, "memory": "1024MB"},
    "createdAt": "2026-11-28T10:00:00.000Z",
}
_ONE_EXAMPLE = {"sandbox": {"data": _EXAMPLE, "meta": _META_EXAMPLE}}
_RESULT_EXAMPLE = {
    "ended": {
        "data": {"stdout": "hello\n", "stderr": "", "exitCode": 0, "executionTime": 12, "durationMs": 12},
        "meta": _META_EXAMPLE,
    }
}
_AUTH: tuple[Auth, ...] = ("api_key", "key")
_PATH = {"sandbox_id": "The sandbox's id, or the name of a live one."}

CREATE = Operation(
    "Create a sandbox as RunTools does",
    tag="runtools",
    auth=_AUTH,
    description="A session under another name. More resources than the maximum of the key are lowered to it.",
    body=RequestBody(
        {JSON: SandboxRequest},
        {"documented": {"template": "base-ubuntu", "name": "build-runner"}, "language": {"template": "node"}},
        required=False,
    ),
    answers={
        200: Json("The live sandbox of that name.", _ONE, _ONE_EXAMPLE),
        201: Json("The sandbox was created.", _ONE, _ONE_EXAMPLE),
        **errors(400, 401, 403, 404, 408, 409, 413, 429, 500, 503),
    },
    has_own_errors=True,
)
LIST = Operation(
    "List sandboxes as RunTools does",
    tag="runtools",
    auth=_AUTH,
    query=(
        Query("status", "`running`, `destroyed` or `failed`; those that live if nothing is said.", _TEXT),
        Query("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}),
        Query("cursor", "The `nextCursor` of the page before.", _TEXT),
    ),
    answers={
        200: Json(
            "The newest first.",
            _PAGE,
            {"one": {"data": [_EXAMPLE], "meta": {"hasMore": False, "nextCursor": None}}},
        ),
        **errors(400, 401, 403, 404, 429, 500, 503),
    },
    has_own_errors=True,
)
GET = Operation(
    "Get a sandbox as RunTools does",
    tag="runtools",
    auth=_AUTH,
    path=_PATH,
    answers={200: Json("The sandbox.", _ONE, _ONE_EXAMPLE), **errors(401, 403, 404, 429, 500, 503)},
    has_own_errors=True,
)
DESTROY = Operation(
    "Destroy a sandbox as RunTools does",
    tag="runtools",
    auth=_AUTH,
    path=_PATH,
    description="Ends everything in it. May be repeated by its id.",
    answers={200: Json("The sandbox has ended.", _ONE), **errors(401, 403, 404, 429, 500, 503)},
    has_own_errors=True,
)
EXEC = Operation(
    "Execute a command in a sandbox as RunTools does",
    tag="runtools",
    auth=_AUTH,
    path=_PATH,
    body=RequestBody(
        {JSON: ExecRequest},
        {"documented": {"command": "npm test", "timeout": 120_000, "cwd": "/workspace", "env": {"CI": "true"}}},
    ),
    answers={
        200: Json("The command has ended, also if it failed.", _RESULT, _RESULT_EXAMPLE),
        **errors(400, 401, 403, 404, 408, 409, 413, 429, 500, 503),
    },
    has_own_errors=True,
)

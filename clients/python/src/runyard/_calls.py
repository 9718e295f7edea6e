"""Every call of the API as a value, and what its answer is read as."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Required, TypedDict, TypeVar
from urllib.parse import quote

from runyard._retry import RetryPolicy, exchange
from runyard._steps import Call, Operation, Upload
from runyard.errors import ConnectionFailed
from runyard.models import File, Page, Row, Run

T = TypeVar("T")


class InlineFile(TypedDict, total=False):
    """A file of a run: `path` with either `content` (text or bytes) or the `id` of one that was uploaded."""

    path: Required[str]
    content: str | bytes
    id: str


class Limits(TypedDict, total=False):
    """Limits of a run; what is left out is the service's default."""

    timeout_ms: int
    cpu_ms: int
    memory_mb: int
    cpus: float
    pids: int
    max_output_bytes: int
    max_artifact_bytes: int
    max_artifact_files: int


class RunOptions(TypedDict, total=False):
    """What may accompany a program. `entrypoint` (the path of one of `files`) stands instead of code."""

    entrypoint: str
    files: Sequence[InlineFile]
    args: Sequence[str]
    stdin: str
    env: Mapping[str, str]
    limits: Limits
    isolation: Literal["default", "container", "gvisor"]
    metadata: Mapping[str, str]
    #: Made by itself when it is not given: the same run is never started twice.
    idempotency_key: str


#: Python holds back what it prints to a pipe; a service does this by itself only for runs that it streams itself.
_LIVE_ENV = {"PYTHONUNBUFFERED": "1"}
_PYTHON = frozenset({"python", "py", "python3"})
#: Above the service's longest: a run's budget of compiling and running, and a wait for its place.
_RUN_SILENCE_S = 180.0
_JSON = {"Content-Type": "application/json"}


def run(language: str, code: str | None, options: RunOptions, *, background: bool, live: bool = False) -> Call:
    """`POST /v1/runs`. `live` has the program's output arrive as it is printed."""
    fields: dict[str, Any] = dict(options)
    key = fields.pop("idempotency_key", None) or new_idempotency_key()
    body: dict[str, Any] = {"language": language}
    if code is not None:
        body["code"] = code
    if background:
        body["background"] = True
    if "files" in fields:
        fields["files"] = [_file(item) for item in fields["files"]]
    if live and language in _PYTHON:
        fields["env"] = _LIVE_ENV | dict(fields.get("env") or {})
    body |= {name: value for name, value in fields.items() if value is not None}
    return Call(
        "POST",
        "/v1/runs",
        body=json.dumps(body).encode(),
        headers=_JSON | {"Idempotency-Key": key},
        silence_s=None if background else _RUN_SILENCE_S,
    )


def new_idempotency_key() -> str:
    """A key that no other request has."""
    return f"runyard-{secrets.token_hex(16)}"


def fetch(path: str, **query: str | int | None) -> Call:
    """A GET; what is None is left out of the query."""
    return Call("GET", path, {name: value for name, value in query.items() if value is not None})


def item(collection: str, item_id: str, *rest: str) -> str:
    """The path of one thing; an id is never more than one part of it."""
    if not item_id or item_id in (".", ".."):
        raise ValueError("id: must not be empty, . or ..")
    return "/".join((f"/v1/{collection}", quote(item_id, safe=""), *rest))


def remove(path: str) -> Call:
    """A DELETE. Once gone, a second one is a 404: so it is not made again after a lost answer."""
    return Call("DELETE", path, safe=False)


def act(path: str, *, safe: bool) -> Call:
    """A POST without a body."""
    return Call("POST", path, body=b"", safe=safe)


def upload(given: Upload) -> Call:
    """`POST /v1/files`: twice would be two files."""
    return Call("POST", "/v1/files", upload=given, safe=False, silence_s=_RUN_SILENCE_S)


def answered(call: Call, policy: RetryPolicy, read: Callable[[Any], T]) -> Operation[T]:
    """Make a call and read its answer. Raises ApiError, ConnectionFailed, ProtocolError."""
    reply = yield from exchange(call, policy)
    return read(reply.json())


def waited(call: Call, policy: RetryPolicy) -> Operation[Run]:
    """Run a program and wait for its end.

    The service ends a run whose client went away. If that was ours, because its connection broke, it is said
    to be lost, never mistaken for a run that somebody cancelled.
    """
    broken: list[ConnectionFailed] = []

    def notice(error: Exception, _pause_s: float) -> None:
        if isinstance(error, ConnectionFailed) and error.sent:
            broken.append(error)

    reply = yield from exchange(call, policy, notice)
    ended = Run.of(reply.json())
    if broken and ended.status == "cancelled":
        raise ConnectionFailed(
            f"the connection was lost while {ended.id} ran, and the service cancelled it; stream() can resume"
        ) from broken[-1]
    return ended


def page(read: Callable[[Any], T]) -> Callable[[Any], Page[T]]:
    """A reader of a list of those."""

    def read_page(data: object) -> Page[T]:
        row = Row(data, "list")
        return Page(
            tuple(read(found) for found in row.items("data")), row.text_or_none("last_id"), row.flag("has_more")
        )

    return read_page


runs_page = page(Run.of)
files_page = page(File.of)


def whole(data: object) -> dict[str, Any]:
    """A JSON object as it is."""
    return Row(data, "answer").data


def _file(given: InlineFile) -> dict[str, str]:
    content = given.get("content")
    if not isinstance(content, bytes):
        return {name: str(value) for name, value in given.items()}
    try:
        return {"path": given["path"], "content": content.decode()}
    except UnicodeDecodeError:
        return {"path": given["path"], "content": base64.b64encode(content).decode(), "encoding": "base64"}

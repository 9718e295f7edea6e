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
    """Options of a run. `entrypoint` (the path of one of `files`) replaces code."""

    entrypoint: str
    files: Sequence[InlineFile]
    args: Sequence[str]
    stdin: str
    env: Mapping[str, str]
    limits: Limits
    isolation: Literal["default", "container", "gvisor"]
    metadata: Mapping[str, str]
    #: Packages to install before it starts, such as `requests==2.32.3`. In a session without.
    packages: Sequence[str]
    #: True: the code is a cell, whose last value, figures and tables are the run's `results`. In a session without.
    results: bool
    #: In a session: the context whose variables the code uses; by default that of the session's language.
    context: str
    #: Made by itself when it is not given: the same run is never started twice.
    idempotency_key: str


#: Python holds back what it prints to a pipe; a service does this by itself only for runs that it streams itself.
_LIVE_ENV = {"PYTHONUNBUFFERED": "1"}
_PYTHON = frozenset({"python", "py", "python3"})
#: Above the service's longest: a run's budget of compiling and running, and a wait for its place.
_RUN_SILENCE_S = 180.0
#: The same for the packages of a run or a session; the service's own time may be longer.
PACKAGES_SILENCE_S = 240.0
_JSON = {"Content-Type": "application/json"}


def run(language: str, code: str | None, options: RunOptions, *, background: bool, live: bool = False) -> Call:
    """Build `POST /v1/runs`. With `live`, the program's output is streamed."""
    fields: dict[str, Any] = dict(options)
    key = fields.pop("idempotency_key", None) or new_idempotency_key()
    # A context has a language of its own.
    body: dict[str, Any] = {} if fields.get("context") else {"language": language}
    if code is not None:
        body["code"] = code
    if background:
        body["background"] = True
    if "files" in fields:
        fields["files"] = [inline_file(item) for item in fields["files"]]
    if "packages" in fields:
        fields["packages"] = packages(fields["packages"])
    silence_s = _RUN_SILENCE_S + (PACKAGES_SILENCE_S if fields.get("packages") else 0)
    if live and language in _PYTHON:
        fields["env"] = _LIVE_ENV | dict(fields.get("env") or {})
    body |= {name: value for name, value in fields.items() if value is not None}
    return Call(
        "POST",
        "/v1/runs",
        body=json.dumps(body).encode(),
        headers=_JSON | {"Idempotency-Key": key},
        silence_s=None if background else silence_s,
    )


def packages(given: Sequence[str] | None) -> list[str] | None:
    """Return the packages of a request as a list. Raises TypeError for a text, which is a sequence of letters."""
    if isinstance(given, str):
        raise TypeError("packages: must be a list of texts, such as ['requests==2.32.3']")
    return None if given is None else list(given)


def new_idempotency_key() -> str:
    """Create a random idempotency key."""
    return f"runyard-{secrets.token_hex(16)}"


def fetch(path: str, **query: str | int | None) -> Call:
    """Build a GET call; parameters that are None are omitted from the query."""
    return Call("GET", path, {name: value for name, value in query.items() if value is not None})


def item(collection: str, item_id: str, *rest: str) -> str:
    """Build the path of one item. The id is percent-encoded into a single path segment."""
    if not item_id or item_id in (".", ".."):
        raise ValueError("id: must not be empty, . or ..")
    return "/".join((f"/v1/{collection}", quote(item_id, safe=""), *rest))


def remove(path: str) -> Call:
    """Build a DELETE call. It is not retried after a lost answer, because a second DELETE returns 404."""
    return Call("DELETE", path, safe=False)


def act(path: str, *, safe: bool) -> Call:
    """Build a POST call without a body."""
    return Call("POST", path, body=b"", safe=safe)


def upload(given: Upload) -> Call:
    """Build `POST /v1/files`. It is not retried, because a second one would create a second file."""
    return Call("POST", "/v1/files", upload=given, safe=False, silence_s=_RUN_SILENCE_S)


def answered(call: Call, policy: RetryPolicy, read: Callable[[Any], T]) -> Operation[T]:
    """Make a call and read its answer. Raises ApiError, ConnectionFailed, ProtocolError."""
    reply = yield from exchange(call, policy)
    return read(reply.json())


def waited(call: Call, policy: RetryPolicy) -> Operation[Run]:
    """Run a program and wait for its end.

    The service ends a run whose client disconnected. If our own connection broke, the run is reported as lost and
    not as cancelled by a user.
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
    """Make a reader of a page from a reader of one item."""

    def read_page(data: object) -> Page[T]:
        row = Row(data, "list")
        return Page(
            tuple(read(found) for found in row.items("data")), row.text_or_none("last_id"), row.flag("has_more")
        )

    return read_page


runs_page = page(Run.of)
files_page = page(File.of)


def whole(data: object) -> dict[str, Any]:
    """Return a JSON object unchanged. Raises ProtocolError for any other type."""
    return Row(data, "answer").data


def inline_file(given: InlineFile) -> dict[str, str]:
    """Encode a file of a request as JSON."""
    content = given.get("content")
    if not isinstance(content, bytes):
        return {name: str(value) for name, value in given.items()}
    try:
        return {"path": given["path"], "content": content.decode()}
    except UnicodeDecodeError:
        return {"path": given["path"], "content": base64.b64encode(content).decode(), "encoding": "base64"}

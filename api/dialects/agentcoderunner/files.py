"""`/api/sessions/{session}/files`: the files of agent-coderunner's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, request

from api.context import context
from api.dialects.agentcoderunner import schemas
from api.dialects.agentcoderunner.callers import require_key
from api.dialects.agentcoderunner.mounting import NAME, Route
from api.dialects.agentcoderunner.requests import MAX_FILE_BYTES
from api.dialects.agentcoderunner.sessions import PATH, SUBJECT, live_session
from api.dialects.answers import exact_json
from api.dialects.execution import discard_body
from api.errors import ApiError, invalid
from api.http.body import read_body
from api.openapi.decorator import Answer, Json, RequestBody, operation
from api.sessions.file_calls import entry_object, operate, send_whole
from api.sessions.worker_calls import not_refused, reached
from protocol.job import path_problem

if TYPE_CHECKING:
    from api.keys.authentication import Caller

#: The most entries of a list, and levels of directories that are looked into.
MAX_LISTED, MAX_DEPTH = 10_000, 64
#: The entries that every session has.
_OWN_DIRECTORIES = frozenset({"inputs", "outputs"})
_FILE_PATH = PATH | {"path": "The path of the file, relative to the session's directory of work."}
_BYTES = {"application/octet-stream": {"type": "string", "format": "binary"}}


@operation(
    "Write a file of a session as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    path=_FILE_PATH,
    description=f"The body is the whole file, at most {MAX_FILE_BYTES} bytes. Directories above it are created.",
    body=RequestBody(_BYTES, required=False),
    answers={
        200: Json("The file was written.", schemas.FILE, {"written": schemas.FILE_EXAMPLE}),
        **schemas.errors(400, 401, 403, 404, 408, 409, 413, 507),
    },
    has_own_errors=True,
)
def write_file_of_agent_coderunner(session: str, path: str) -> Response:
    """Replace a file by the body: all of it or nothing."""
    try:
        caller, found = _opened(session)
        raw = checked(path)
        release = context().places.uploads.acquire(caller.id)
    except ApiError:
        discard_body()
        raise
    try:
        data = _body()
        arguments = [raw, b"", b"%d" % len(data)]
        written = reached(
            lambda: context().session_worker.send_file(found, caller.id, "write", arguments, [data] if data else [])
        )
        entry = entry_object(not_refused(written, found, caller))
    finally:
        release()
    return exact_json(shown(entry | {"path": path}))


@operation(
    "Read a file of a session as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    path=_FILE_PATH,
    description="Always an attachment.",
    answers={200: Answer("The bytes.", _BYTES), **schemas.errors(400, 401, 403, 404, 409)},
    has_own_errors=True,
)
def read_file_of_agent_coderunner(session: str, path: str) -> Response:
    """Send the bytes of a file."""
    caller, found = _opened(session)
    return send_whole(found, caller, checked(path))


@operation(
    "Remove a file of a session as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    path=_FILE_PATH,
    answers={
        200: Json("The file is gone.", schemas.REMOVED_FILE, {"gone": {"path": "data/in.csv", "deleted": True}}),
        **schemas.errors(400, 401, 403, 404, 409),
    },
    has_own_errors=True,
)
def remove_file_of_agent_coderunner(session: str, path: str) -> Response:
    """Remove a file, a link or an empty directory."""
    caller, found = _opened(session)
    operate(found, caller, "remove", [checked(path), b"0"])
    return exact_json({"path": path, "deleted": True})


@operation(
    "List the files of a session as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    path=PATH,
    answers={
        200: Json(
            f"All in the session's directory of work, by path; at most {MAX_LISTED}.",
            schemas.FILES,
            {"one": {"files": [schemas.FILE_EXAMPLE], "truncated": False}},
        ),
        **schemas.errors(401, 403, 404),
    },
    has_own_errors=True,
)
def list_files_of_agent_coderunner(session: str) -> Response:
    """List what is in the directory of work, and in the directories in it."""
    caller, found = _opened(session)
    release = context().places.readers.acquire(caller.id)
    try:
        entries = operate(found, caller, "list", [b".", b"%d" % MAX_DEPTH, b"", b"%d" % MAX_LISTED])["entries"]
        rows = [shown(entry_object(entry)) for entry in entries[:MAX_LISTED]]
    finally:
        release()
    return exact_json({"files": _without_own(rows), "truncated": len(entries) > MAX_LISTED})


def shown(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of a session's files as agent-coderunner shows it."""
    return {
        "path": entry["path"],
        "type": entry["type"],
        "size": entry["size"],
        "modifiedAt": entry["modified_at"],
    }


def checked(path: str) -> bytes:
    """Return the path of a file as bytes: beneath the session's directory of work. Raises ApiError 400."""
    # Bytes that are not UTF-8 come as that character.
    problem = "must be UTF-8" if "�" in path else path_problem(path)
    if problem is not None:
        raise invalid(f"path: {problem}", param="path", code="invalid_path")
    return path.encode()


def _opened(session: str) -> tuple[Caller, str]:
    """Return the caller and the session of this request. Raises ApiError 401, 403, 404 or 429."""
    caller = require_key(SUBJECT, reading=True)
    return caller, live_session(caller, session)


def _body() -> bytes:
    """Return the content of a file. Raises ApiError 400, 408 or 413."""
    length = request.content_length
    if length is not None and length > MAX_FILE_BYTES:
        discard_body()
        raise _too_large()
    data = read_body(request)
    if len(data) > MAX_FILE_BYTES:
        raise _too_large()
    return data


def _without_own(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without the directories of every session; what is in them stays."""
    return [row for row in rows if row["path"] not in _OWN_DIRECTORIES]


def _too_large() -> ApiError:
    return ApiError(
        413, f"The file is larger than the maximum of {MAX_FILE_BYTES} bytes.", code="request_too_large"
    )


_FILES = "/api/sessions/<session>/files"
_FILE = f"{_FILES}/<path:path>"
ROUTES: tuple[Route, ...] = (
    (_FILES, "GET", list_files_of_agent_coderunner),
    (_FILE, "PUT", write_file_of_agent_coderunner),
    (_FILE, "GET", read_file_of_agent_coderunner),
    (_FILE, "DELETE", remove_file_of_agent_coderunner),
)

"""`/v1/sessions/{id}/files`: read, write, list, move, copy and remove the files of a session."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

from flask import Blueprint, Response, request

from api.context import context
from api.errors import JSON, ApiError
from api.http.body import parse_object, read_json_body
from api.http.json_response import json_response
from api.http.query import parse_int
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.sessions.answers import FileEntries, FileEntry
from api.sessions.process_routes import body_pieces
from api.sessions.requests import (
    ChmodIn,
    MkdirIn,
    MoveIn,
    checked_path,
    parse_change,
    parse_flag,
    parse_mode,
    parse_path,
    parse_query,
)
from api.sessions.routes import INSIDE, PATH, opened
from api.system.languages import worker_unavailable
from config.clock import rfc3339
from dispatch import WorkerLost, WorkerUnavailable
from protocol.result import Refusal
from storage import download, media_types, ranges
from storage.names import FileName
from storage.ranges import RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.keys.authentication import Caller
    from storage.ranges import Span

blueprint = Blueprint("session_files", __name__)

#: What a file operation may be refused for.
FILE_ERRORS = (
    "file_not_found", "file_not_permitted", "not_a_file", "not_a_directory", "file_exists", "disk_full",
    "invalid_path", "missing_field", "io_error",
)  # fmt: skip
_WHERE = Query(
    "path",
    "Relative to /work, or absolute.",
    {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": r"^[^\x00]*$"},
    required=True,
)
MAX_LISTED = 10_000
MAX_DEPTH = 64


@blueprint.get("/v1/sessions/<session_id>/files")
@operation(
    "Read a file of a session",
    tag="sessions",
    description="Always an attachment. `HEAD` works.",
    path=PATH,
    query=(_WHERE, Query("Range", "One range of bytes.", {"type": "string"}, where="header")),
    answers={
        200: Answer("The bytes.", {"application/octet-stream": {"type": "string", "format": "binary"}}),
        206: Answer("The range.", {"application/octet-stream": {"type": "string", "format": "binary"}}),
    },
    errors=(*INSIDE, *FILE_ERRORS, "range_not_satisfiable", "too_many_connections"),
)
def read_session_file(session_id: str) -> Response:
    """Send the bytes of a file, or one range of them."""
    path = parse_path(parse_query(request.args, "path"))
    caller = opened(session_id)
    span = _span(session_id, caller, path) if request.method == "GET" and "Range" in request.headers else None
    name = FileName.of(path.decode("utf-8", "replace")).name
    headers = download.headers(name, media_types.media_type(name, b"")) | {"Accept-Ranges": "bytes"}
    offset, length = (span.offset, b"%d" % span.length) if span is not None else (0, b"")
    with ExitStack() as held:
        held.callback(context().places.readers.acquire(caller.id))
        found = _reached(
            lambda: held.enter_context(
                context().session_worker.reading(session_id, caller.id, [path, b"%d" % offset, length])
            )
        )
        if isinstance(found, Refusal):
            raise context().sessions.refused(caller.id, session_id, found)
        entry, pieces = found
        sent = span.length if span is not None else entry["size"]
        headers["Content-Length"] = str(sent)
        if span is not None:
            headers["Content-Range"] = span.content_range(entry["size"])
        if request.method == "HEAD":
            response = Response(b"", 200, headers)
            response.automatically_set_content_length = False
            response.headers["Content-Length"] = str(sent)
            return response
        response = Response(_exactly(pieces, sent), 200 if span is None else 206, headers)
        response.call_on_close(held.pop_all().close)
        return response


@blueprint.put("/v1/sessions/<session_id>/files")
@operation(
    "Write a file of a session",
    tag="sessions",
    description="The body is the whole file. Directories above it are created.",
    path=PATH,
    query=(_WHERE, Query("mode", "The permission bits, in octal.", {"type": "string", "pattern": "^[0-7]{3,4}$"})),
    body=RequestBody({"application/octet-stream": {"type": "string", "format": "binary"}}, required=False),
    answers={200: Json("The file was written.", FileEntry)},
    errors=(*INSIDE, *FILE_ERRORS, "incomplete_body", "invalid_value", "too_many_connections"),
)
def write_session_file(session_id: str) -> Response:
    """Replace a file by the body, as it arrives: all of it or nothing."""
    query = parse_query(request.args, "path", "mode")
    path, mode = parse_path(query), parse_mode(query.get("mode"))
    caller = opened(session_id)
    length = request.content_length
    size = b"" if length is None and "HTTP_TRANSFER_ENCODING" in request.environ else b"%d" % (length or 0)
    release = context().places.uploads.acquire(caller.id)
    try:
        arguments = [path, mode, size]
        entry = _reached(
            lambda: context().session_worker.write_file(session_id, caller.id, arguments, body_pieces())
        )
        if isinstance(entry, Refusal):
            raise context().sessions.refused(caller.id, session_id, entry)
        return json_response(_entry(entry))
    finally:
        release()


@blueprint.delete("/v1/sessions/<session_id>/files")
@operation(
    "Remove a file of a session",
    tag="sessions",
    path=PATH,
    query=(
        _WHERE,
        Query("recursive", "`1` for a directory with all in it.", {"type": "string", "enum": ["0", "1"]}),
    ),
    answers={200: Json("What was removed.", FileEntry)},
    errors=(*INSIDE, *FILE_ERRORS),
)
def remove_session_file(session_id: str) -> Response:
    """Remove a file, a link or a directory."""
    query = parse_query(request.args, "path", "recursive")
    arguments = [parse_path(query), _flag(parse_flag(query, "recursive"))]
    return _answer(session_id, opened(session_id), "remove", arguments)


@blueprint.get("/v1/sessions/<session_id>/files/list")
@operation(
    "List a directory of a session",
    tag="sessions",
    path=PATH,
    query=(
        _WHERE,
        Query("depth", "So many levels.", {"type": "integer", "minimum": 1, "maximum": MAX_DEPTH, "default": 1}),
        Query("glob", "Only names or paths that match.", {"type": "string", "minLength": 1, "maxLength": 1024}),
        Query("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED}),
    ),
    answers={200: Json("The entries, by name.", FileEntries)},
    errors=(*INSIDE, *FILE_ERRORS, "invalid_value", "too_many_connections"),
)
def list_session_files(session_id: str) -> Response:
    """List what is in a directory."""
    query = parse_query(request.args, "path", "depth", "glob", "limit")
    path = parse_path(query)
    depth = parse_int(query.get("depth"), "depth", 1, MAX_DEPTH, 1)
    limit = parse_int(query.get("limit"), "limit", 1, MAX_LISTED, MAX_LISTED)
    glob = checked_path(query["glob"], "glob") if "glob" in query else b""
    caller = opened(session_id)
    arguments = [path, b"%d" % depth, glob, b"%d" % limit]
    release = context().places.readers.acquire(caller.id)
    try:
        found = _operate(session_id, caller, "list", arguments)
        data = [_entry(item, within=path) for item in found["entries"][:limit]]
        return json_response({"object": "list", "data": data, "has_more": len(found["entries"]) > limit})
    finally:
        release()


@blueprint.get("/v1/sessions/<session_id>/files/stat")
@operation(
    "Look at a file of a session",
    tag="sessions",
    path=PATH,
    query=(_WHERE,),
    answers={200: Json("The entry; a link is not followed.", FileEntry)},
    errors=(*INSIDE, *FILE_ERRORS),
)
def stat_session_file(session_id: str) -> Response:
    """Return the entry of a file, a directory or a link."""
    path = parse_path(parse_query(request.args, "path"))
    return _answer(session_id, opened(session_id), "stat", [path])


@blueprint.post("/v1/sessions/<session_id>/files/mkdir")
@operation(
    "Make a directory in a session",
    tag="sessions",
    path=PATH,
    body=RequestBody({JSON: MkdirIn}, {"example": {"path": "data/raw", "parents": True}}),
    answers={200: Json("The entry as it is now.", FileEntry)},
    errors=(*JSON_BODY, *INSIDE, *FILE_ERRORS),
)
def make_session_directory(session_id: str) -> Response:
    """Make a directory, with `parents` also those above it."""
    caller = opened(session_id)
    asked = parse_change(MkdirIn, parse_object(read_json_body(request)))
    return _answer(session_id, caller, "mkdir", [checked_path(asked.path, "path"), _flag(asked.parents)])


@blueprint.post("/v1/sessions/<session_id>/files/move")
@operation(
    "Move a file of a session",
    tag="sessions",
    path=PATH,
    body=RequestBody({JSON: MoveIn}, {"example": {"from": "a.txt", "to": "b/a.txt"}}),
    answers={200: Json("The entry as it is now.", FileEntry)},
    errors=(*JSON_BODY, *INSIDE, *FILE_ERRORS),
)
def move_session_file(session_id: str) -> Response:
    """Move a file or a directory."""
    caller = opened(session_id)
    asked = parse_change(MoveIn, parse_object(read_json_body(request)))
    return _answer(
        session_id,
        caller,
        "move",
        [checked_path(asked.source, "from"), checked_path(asked.to, "to"), _flag(asked.overwrite)],
    )


@blueprint.post("/v1/sessions/<session_id>/files/copy")
@operation(
    "Copy a file of a session",
    tag="sessions",
    path=PATH,
    body=RequestBody({JSON: MoveIn}, {"example": {"from": "a.txt", "to": "b/a.txt"}}),
    answers={200: Json("The entry as it is now.", FileEntry)},
    errors=(*JSON_BODY, *INSIDE, *FILE_ERRORS),
)
def copy_session_file(session_id: str) -> Response:
    """Copy a file, or a directory with all that is in it."""
    caller = opened(session_id)
    asked = parse_change(MoveIn, parse_object(read_json_body(request)))
    return _answer(
        session_id,
        caller,
        "copy",
        [checked_path(asked.source, "from"), checked_path(asked.to, "to"), _flag(asked.overwrite)],
    )


@blueprint.post("/v1/sessions/<session_id>/files/chmod")
@operation(
    "Change the permissions of a file of a session",
    tag="sessions",
    path=PATH,
    body=RequestBody({JSON: ChmodIn}, {"example": {"path": "run.sh", "mode": "755"}}),
    answers={200: Json("The entry as it is now.", FileEntry)},
    errors=(*JSON_BODY, *INSIDE, *FILE_ERRORS),
)
def chmod_session_file(session_id: str) -> Response:
    """Set the permission bits."""
    caller = opened(session_id)
    asked = parse_change(ChmodIn, parse_object(read_json_body(request)))
    return _answer(session_id, caller, "chmod", [checked_path(asked.path, "path"), parse_mode(asked.mode)])


def _span(session_id: str, caller: Caller, path: bytes) -> Span | None:
    """Return the range that is asked for; None for the whole. Raises ApiError 416."""
    size = _operate(session_id, caller, "stat", [path, b"1"])["entry"]["size"]
    try:
        return ranges.parse(request.headers["Range"], size)
    except RangeNotSatisfiable as e:
        words = f"Range: begins beyond the end of the file, which has {size} bytes"
        headers = {"Content-Range": f"bytes */{size}"}
        raise ApiError(416, words, code="range_not_satisfiable", param="Range", headers=headers) from e


def _relocate(session_id: str, caller: Caller, name: str, asked: MoveIn) -> Response:
    source, target = checked_path(asked.source, "from"), checked_path(asked.to, "to")
    return _answer(session_id, caller, name, [source, target, _flag(asked.overwrite)])


def _flag(value: bool | None) -> bytes:  # noqa: FBT001  # a field of a body
    return b"1" if value else b"0"


# -- the worker --------------------------------------------------------------------------------------


def _answer(session_id: str, caller: Caller, name: str, arguments: list[bytes]) -> Response:
    return json_response(_entry(_operate(session_id, caller, name, arguments)["entry"]))


def _operate(session_id: str, caller: Caller, name: str, arguments: list[bytes]) -> dict[str, Any]:
    found = _reached(lambda: context().session_worker.operate(session_id, caller.id, name, arguments))
    if isinstance(found, Refusal):
        raise context().sessions.refused(caller.id, session_id, found)
    done: dict[str, Any] = found
    return done


def _reached(call: Any) -> Any:  # noqa: ANN401  # what the worker answers
    try:
        return call()
    except (WorkerUnavailable, WorkerLost) as e:
        raise worker_unavailable() from e


def _exactly(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield so many bytes of what the sandbox sends: it must not send more than was announced."""
    left = size
    for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def _entry(found: dict[str, Any], within: bytes = b"") -> dict[str, Any]:
    """Return an entry of the API; a name that is not UTF-8 is percent-encoded."""
    name, target = (found[part].encode("latin-1") for part in ("name", "target"))
    path = within.rstrip(b"/") + b"/" + name if within else name
    shown = {
        "name": _text(name if within else name.rpartition(b"/")[2] or name),
        "path": _text(path),
        "type": found["kind"],
        "size": found["size"],
        "mode": f"{found['mode']:04o}",
        "uid": found["uid"],
        "gid": found["gid"],
        "modified_at": rfc3339(min(found["mtime_ns"] // 1_000_000, 253_402_300_799_000)),
        "target": _text(target) if found["kind"] == "symlink" else None,
    }
    return shown if _is_utf8(path) else shown | {"raw": True}


def _text(raw: bytes) -> str:
    return raw.decode() if _is_utf8(raw) else quote_from_bytes(raw)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True

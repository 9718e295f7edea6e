"""`/v1/sessions/{id}/files`: read, write, list, move, copy and remove the files of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context
from api.errors import JSON, ApiError
from api.http.body import parse_object, read_json_body
from api.http.json_response import json_response
from api.http.query import parse_int
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.sessions.answers import FileEntries, FileEntry
from api.sessions.bodies import parse_flag, parse_query
from api.sessions.file_calls import (
    BODY_ERRORS,
    FILE_ERRORS,
    WHERE,
    Sending,
    answer,
    attachment_headers,
    entry_object,
    file_query,
    flag,
    operate,
    receive,
    send_whole,
)
from api.sessions.file_requests import (
    ChmodIn,
    MkdirIn,
    MoveIn,
    body_path,
    checked_path,
    parse_change,
    parse_mode,
    parse_path,
)
from api.sessions.routes import INSIDE, PATH, opened
from storage import ranges
from storage.ranges import RangeNotSatisfiable

if TYPE_CHECKING:
    from api.keys.authentication import Caller
    from storage.ranges import Span

blueprint = Blueprint("session_files", __name__)

MAX_LISTED = 10_000
MAX_DEPTH = 64


@blueprint.get("/v1/sessions/<session_id>/files")
@operation(
    "Read a file of a session",
    tag="sessions",
    description="Always an attachment. `HEAD` works.",
    path=PATH,
    query=(WHERE, Query("Range", "One range of bytes.", {"type": "string"}, where="header")),
    answers={
        200: Answer("The bytes.", {"application/octet-stream": {"type": "string", "format": "binary"}}),
        206: Answer("The range.", {"application/octet-stream": {"type": "string", "format": "binary"}}),
    },
    errors=(*INSIDE, *FILE_ERRORS, "range_not_satisfiable", "too_many_connections"),
)
def read_session_file(session_id: str) -> Response:
    """Send the bytes of a file, or one range of them."""
    path = parse_path(parse_query(file_query(), "path"))
    caller = opened(session_id)
    span = None if request.method == "HEAD" else _span(session_id, caller, path)
    if span is None:
        return send_whole(session_id, caller, path)
    sending = Sending(session_id, caller, "read", [path, b"%d" % span.offset, b"%d" % span.length])
    size = sending.entry["size"]
    headers = attachment_headers(path, span.length) | {"Content-Range": span.content_range(size)}
    return sending.response(206, headers, span.length)


@blueprint.put("/v1/sessions/<session_id>/files")
@operation(
    "Write a file of a session",
    tag="sessions",
    description="The body is the whole file. Directories above it are created.",
    path=PATH,
    query=(WHERE, Query("mode", "The permission bits, in octal.", {"type": "string", "pattern": "^[0-7]{3,4}$"})),
    body=RequestBody({"application/octet-stream": {"type": "string", "format": "binary"}}, required=False),
    answers={200: Json("The file was written.", FileEntry)},
    errors=(*INSIDE, *FILE_ERRORS, *BODY_ERRORS, "invalid_value"),
)
def write_session_file(session_id: str) -> Response:
    """Replace a file by the body, as it arrives: all of it or nothing."""
    query = parse_query(file_query(), "path", "mode")
    path, mode = parse_path(query), parse_mode(query.get("mode"))
    caller = opened(session_id)
    length = request.content_length
    size = b"" if length is None and "HTTP_TRANSFER_ENCODING" in request.environ else b"%d" % (length or 0)
    return receive(session_id, caller, "write", [path, mode, size])


@blueprint.delete("/v1/sessions/<session_id>/files")
@operation(
    "Remove a file of a session",
    tag="sessions",
    path=PATH,
    query=(
        WHERE,
        Query("recursive", "`1` for a directory with all in it.", {"type": "string", "enum": ["0", "1"]}),
    ),
    answers={200: Json("What was removed.", FileEntry)},
    errors=(*INSIDE, *FILE_ERRORS),
)
def remove_session_file(session_id: str) -> Response:
    """Remove a file, a link or a directory."""
    query = parse_query(file_query(), "path", "recursive")
    arguments = [parse_path(query), flag(parse_flag(query, "recursive"))]
    return answer(session_id, opened(session_id), "remove", arguments)


@blueprint.get("/v1/sessions/<session_id>/files/list")
@operation(
    "List a directory of a session",
    tag="sessions",
    path=PATH,
    query=(
        WHERE,
        Query("depth", "So many levels.", {"type": "integer", "minimum": 1, "maximum": MAX_DEPTH, "default": 1}),
        Query("glob", "Only names or paths that match.", {"type": "string", "minLength": 1, "maxLength": 1024}),
        Query("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED}),
    ),
    answers={200: Json("The entries, by name.", FileEntries)},
    errors=(*INSIDE, *FILE_ERRORS, "invalid_value", "too_many_connections"),
)
def list_session_files(session_id: str) -> Response:
    """List what is in a directory."""
    query = parse_query(file_query(), "path", "depth", "glob", "limit")
    path = parse_path(query)
    depth = parse_int(query.get("depth"), "depth", 1, MAX_DEPTH, 1)
    limit = parse_int(query.get("limit"), "limit", 1, MAX_LISTED, MAX_LISTED)
    glob = checked_path(query["glob"], "glob") if "glob" in query else b""
    caller = opened(session_id)
    arguments = [path, b"%d" % depth, glob, b"%d" % limit]
    release = context().places.readers.acquire(caller.id)
    try:
        found = operate(session_id, caller, "list", arguments)
        data = [entry_object(item, within=path) for item in found["entries"][:limit]]
        return json_response({"object": "list", "data": data, "has_more": len(found["entries"]) > limit})
    finally:
        release()


@blueprint.get("/v1/sessions/<session_id>/files/stat")
@operation(
    "Look at a file of a session",
    tag="sessions",
    path=PATH,
    query=(WHERE,),
    answers={200: Json("The entry; a link is not followed.", FileEntry)},
    errors=(*INSIDE, *FILE_ERRORS),
)
def stat_session_file(session_id: str) -> Response:
    """Return the entry of a file, a directory or a link."""
    path = parse_path(parse_query(file_query(), "path"))
    return answer(session_id, opened(session_id), "stat", [path])


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
    return answer(session_id, caller, "mkdir", [body_path(asked.path, "path", raw=asked.raw), flag(asked.parents)])


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
    return _relocate(session_id, "move")


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
    return _relocate(session_id, "copy")


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
    path = body_path(asked.path, "path", raw=asked.raw)
    return answer(session_id, caller, "chmod", [path, parse_mode(asked.mode)])


def _relocate(session_id: str, name: str) -> Response:
    caller = opened(session_id)
    asked = parse_change(MoveIn, parse_object(read_json_body(request)))
    source, target = (body_path(text, of, raw=asked.raw) for text, of in ((asked.source, "from"), (asked.to, "to")))
    return answer(session_id, caller, name, [source, target, flag(asked.overwrite)])


def _span(session_id: str, caller: Caller, path: bytes) -> Span | None:
    """Return the range that is asked for; None for the whole. Raises ApiError 416.

    With `If-Range` it is the whole: files have no validators that a range could depend on.
    """
    if "Range" not in request.headers or "If-Range" in request.headers:
        return None
    size = operate(session_id, caller, "stat", [path, b"1"])["entry"]["size"]
    try:
        return ranges.parse(request.headers["Range"], size)
    except RangeNotSatisfiable as e:
        words = f"Range: begins beyond the end of the file, which has {size} bytes"
        headers = {"Content-Range": f"bytes */{size}"}
        raise ApiError(416, words, code="range_not_satisfiable", param="Range", headers=headers) from e

"""`/v1/sessions/{id}/files/archive`: a directory of a session as a tar, out and in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, request

from api.errors import invalid
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.sessions.answers import FileEntry
from api.sessions.bodies import parse_query
from api.sessions.file_calls import BODY_ERRORS, FILE_ERRORS, WHERE, Sending, file_query, receive
from api.sessions.file_requests import checked_path, parse_path
from api.sessions.routes import INSIDE, PATH, opened
from storage import download
from storage.names import FileName

if TYPE_CHECKING:
    from flask import Response

blueprint = Blueprint("session_archives", __name__)

TAR = "application/x-tar"
MAX_EXCLUDED = 32
_EXCLUDE = Query(
    "exclude",
    "A glob of names or paths that are left out; may be given up to 32 times.",
    {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": r"^[^\x00]*$"},
)


@blueprint.get("/v1/sessions/<session_id>/files/archive")
@operation(
    "Download a directory of a session",
    tag="sessions",
    description=(
        "As a tar, while it is made. Links are stored and not followed. What is neither file, directory nor link, "
        "and what a program may not read, is left out."
    ),
    path=PATH,
    query=(WHERE, _EXCLUDE),
    answers={200: Answer("The archive.", {TAR: {"type": "string", "format": "binary"}})},
    errors=(*INSIDE, *FILE_ERRORS, "too_many", "too_many_connections"),
)
def download_session_archive(session_id: str) -> Response:
    """Send a directory as a tar."""
    path, excluded = _asked()
    sending = Sending(session_id, opened(session_id), "pack", [path, *excluded])
    name = FileName.of(path.decode("utf-8", "replace")).name
    if request.method == "HEAD":
        sending.close()
        return sending.response(200, download.headers(f"{name}.tar", TAR), 0)
    return sending.response(200, download.headers(f"{name}.tar", TAR))


@blueprint.put("/v1/sessions/<session_id>/files/archive")
@operation(
    "Unpack an archive in a session",
    tag="sessions",
    description=(
        "The body is a tar, not compressed; the directory is created. The first bad entry ends it and is named; "
        "what came before stays."
    ),
    path=PATH,
    query=(WHERE, _EXCLUDE),
    body=RequestBody({TAR: {"type": "string", "format": "binary"}}),
    answers={200: Json("The directory.", FileEntry)},
    errors=(*INSIDE, *FILE_ERRORS, *BODY_ERRORS, "invalid_archive", "too_many"),
)
def unpack_session_archive(session_id: str) -> Response:
    """Unpack the body beneath a directory, as it arrives."""
    path, excluded = _asked()
    return receive(session_id, opened(session_id), "unpack", [path, *excluded])


def _asked() -> tuple[bytes, list[bytes]]:
    """Return the path and the patterns of the query. Raises ApiError 400."""
    query = file_query()
    patterns = query.poplist("exclude")
    if len(patterns) > MAX_EXCLUDED:
        problem = f"exclude: is given {len(patterns)} times, the maximum is {MAX_EXCLUDED}"
        raise invalid(problem, param="exclude", code="too_many")
    return parse_path(parse_query(query, "path")), [checked_path(pattern, "exclude") for pattern in patterns]

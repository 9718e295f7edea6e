"""`POST /api/code/run`, and the prefixes and the key of all of tinirun's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from flask import Blueprint, Response, request

from api.context import context, require_caller
from api.dialects.caller import require_dialect_caller, require_own_key
from api.dialects.execution import discard_body, require_room
from api.dialects.field_names import rename_field
from api.dialects.tinirun import schemas
from api.dialects.tinirun.answers import render
from api.dialects.tinirun.chunks import media_of_request
from api.dialects.tinirun.languages import LANGUAGES
from api.dialects.tinirun.requests import RunCode, parse_run, run_fields
from api.dialects.tinirun.streams import encoded, run_chunks
from api.errors import JSON, ApiError, answer_error
from api.http.body import parse_object, read_json_body
from api.openapi.decorator import RequestBody, operation
from api.runs.open_stream import stream_run
from api.runs.requests import parse_run as parse_own_run

if TYPE_CHECKING:
    from api.keys.authentication import Caller

NAME = "tinirun"
KEY_HEADER = "X-Runner-Api-Key"
KEYLESS: tuple[str, ...] = ("/api/code/",)
OWN: tuple[str, ...] = ("/api/code/", "/api/function/", "/api/docs/", "/api/openapi.json/")

blueprint = Blueprint(NAME, __name__)
blueprint.register_error_handler(Exception, lambda e: answer_error(e, render))


def require_runner(*, reading: bool, own_key: bool) -> Caller:
    """Return the caller, by its `X-Runner-Api-Key` or as every dialect finds it. Raises ApiError 401, 403 or 429.

    With `own_key` a request without a key is refused: what it leaves behind is found again by that key alone.
    """
    given = request.headers.get(KEY_HEADER)
    if given is not None:
        return require_caller(reading=reading, authorization=f"Bearer {given.strip()}")
    return (require_own_key if own_key else require_dialect_caller)(reading=reading)


def require_runner_with_room(*, own_key: bool) -> Caller:
    """Return the caller of a call that starts a run, before its body is read. Raises ApiError."""
    try:
        caller = require_runner(reading=False, own_key=own_key)
        require_room()
    except ApiError:
        discard_body()
        raise
    return caller


@blueprint.post("/api/code/run")
@operation(
    "Run a program as tinirun does",
    tag=NAME,
    auth=("runner_key", "key", "api_key", "none"),
    description=(
        "The answer is a stream of chunks: one JSON object a line, or server-sent events if Accept names "
        "`text/event-stream`. Its last chunk is `result` or `error`. No line has more than 64 KiB: a longer output "
        "comes in several chunks, and `result` repeats the beginning of it."
    ),
    body=RequestBody({JSON: RunCode}, schemas.PROGRAMS),
    answers={200: schemas.STREAM, **schemas.errors(400, 401, 403, 408, 413, 415, 429, 500, 503)},
    has_own_errors=True,
)
def run_code() -> Response:
    """Run a program and stream what it says."""
    caller = require_runner_with_room(own_key=False)
    asked = parse_run(parse_object(read_json_body(request)))
    context().languages.find(LANGUAGES[asked.lang].id)
    fields, names = run_fields(asked, caller.plan)
    fields["limits"]["max_artifact_files"] = 0  # nothing in the answer would name them
    media = media_of_request()
    try:
        stream = stream_run(parse_own_run(fields | {"stream": True}), caller, orjson.dumps(fields))
    except ApiError as e:
        rename_field(e, names)
        raise
    return stream.answer(encoded(run_chunks(stream.messages), media), schemas.content_type(media))

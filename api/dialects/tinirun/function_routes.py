"""`/api/function`: tinirun's functions, which are functions of this service under other paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request

from api.context import context
from api.dialects.answers import exact_document, exact_json
from api.dialects.execution import answer, discard_body, execute_request
from api.dialects.field_names import rename_field
from api.dialects.tinirun import schemas
from api.dialects.tinirun.answers import EXISTS, detail_of, info_of, render, render_call
from api.dialects.tinirun.chunks import media_of_request
from api.dialects.tinirun.languages import LANGUAGES
from api.dialects.tinirun.requests import (
    LIMIT_NAMES,
    CallFunction,
    CreateFunction,
    UpdateFunction,
    function_fields,
    limits_of,
    names_of_packages,
    parse_call,
    parse_create,
    parse_update,
)
from api.dialects.tinirun.routes import NAME, require_runner, require_runner_with_room
from api.dialects.tinirun.streams import build_chunks, encoded, result_fields, run_chunks
from api.errors import JSON, ApiError, answer_error, invalid
from api.functions.handlers import call_request
from api.functions.requests import parse_call as parse_own_call
from api.functions.requests import parse_function, unknown_function
from api.http.body import parse_object, read_json_body
from api.openapi.decorator import Json, RequestBody, operation
from api.runs.open_stream import open_stream, stream_run
from api.runs.rendering import client_fd, signer

if TYPE_CHECKING:
    from api.keys.authentication import Caller
    from api.openapi.decorator import Auth
    from api.runs.requests import RunRequest

blueprint = Blueprint("tinirun_functions", __name__)
blueprint.register_error_handler(Exception, lambda e: answer_error(e, render))

_AUTH: tuple[Auth, ...] = ("runner_key", "key", "api_key")
_NAME = {"name": "The name of the function."}
_FAULTS = (401, 403, 408, 413, 415, 429, 500, 503)


@blueprint.get("/api/function")
@operation(
    "List tinirun's functions",
    tag=NAME,
    auth=_AUTH,
    answers={
        200: Json("All functions of the key.", schemas.FUNCTIONS, schemas.FUNCTIONS_EXAMPLE),
        **schemas.errors(401, 403, 429, 500, 503),
    },
    has_own_errors=True,
)
def list_tinirun_functions() -> Response:
    """List all functions of the key, the newest first."""
    caller = require_runner(reading=True, own_key=True)
    found = context().functions.all_newest(caller.id)
    return exact_json([{"name": one["name"], "info": info_of(one)} for one in found])


@blueprint.post("/api/function")
@operation(
    "Create a function as tinirun does",
    tag=NAME,
    auth=_AUTH,
    description="The function is built from a template, which greets its input. The answer is the build's stream.",
    body=RequestBody({JSON: CreateFunction}, {"python": {"name": "greet", "language": "python"}}),
    answers={200: schemas.STREAM, **schemas.errors(400, *_FAULTS)},
    has_own_errors=True,
)
def create_function() -> Response:
    """Create a function from a template and stream its build."""
    caller = require_runner_with_room(own_key=True)
    asked = parse_create(parse_object(read_json_body(request)))
    language = LANGUAGES[asked.language]
    context().languages.find(language.id)
    if context().functions.exists(caller.id, asked.name):
        raise invalid(EXISTS, param="name")
    return _build(caller, asked.name, function_fields(language.id, language.template, None, None), {}, is_new=True)


@blueprint.get("/api/function/<name>/info")
@operation(
    "Get a function as tinirun does",
    tag=NAME,
    auth=_AUTH,
    path=_NAME,
    answers={
        200: Json("Its newest version.", schemas.INFO, {"ready": schemas.INFO_EXAMPLE}),
        **schemas.errors(401, 403, 404, 429, 500, 503),
    },
    has_own_errors=True,
)
def get_tinirun_function_info(name: str) -> Response:
    """Return the facts of a function."""
    caller = require_runner(reading=True, own_key=True)
    return exact_json(info_of(context().functions.newest(caller.id, name)))


@blueprint.get("/api/function/<name>/detail")
@operation(
    "Get a function with its code as tinirun does",
    tag=NAME,
    auth=_AUTH,
    path=_NAME,
    answers={
        200: Json("Its newest version.", schemas.DETAIL, {"ready": schemas.DETAIL_EXAMPLE}),
        **schemas.errors(401, 403, 404, 429, 500, 503),
    },
    has_own_errors=True,
)
def get_tinirun_function_detail(name: str) -> Response:
    """Return the facts of a function, with its code and dependencies."""
    caller = require_runner(reading=True, own_key=True)
    body = orjson.dumps(detail_of(context().functions.newest(caller.id, name)))
    release = context().places.readers.acquire_for_response(len(body), caller.id)
    response = exact_document(body)
    response.call_on_close(release)
    return response


@blueprint.post("/api/function/<name>")
@operation(
    "Change a function as tinirun does",
    tag=NAME,
    auth=_AUTH,
    description="Builds the next version of a function. The answer is the stream of its build.",
    path=_NAME,
    body=RequestBody({JSON: UpdateFunction}, schemas.UPDATES),
    answers={200: schemas.STREAM, **schemas.errors(400, 404, *_FAULTS)},
    has_own_errors=True,
)
def update_function(name: str) -> Response:
    """Build the next version of a function and stream its build."""
    caller = require_runner_with_room(own_key=True)
    try:
        found = context().functions.newest(caller.id, name)
    except ApiError:
        discard_body()
        raise
    asked = parse_update(parse_object(read_json_body(request)))
    fields = function_fields(found["language"], asked.code, asked.description, asked.dependencies)
    return _build(caller, name, fields, names_of_packages(asked.dependencies), is_new=False)


@blueprint.post("/api/function/<name>/run")
@operation(
    "Call a function as tinirun does",
    tag=NAME,
    auth=_AUTH,
    description="All that the handler has printed, and behind it the text that it has returned, is `stdout`.",
    path=_NAME,
    body=RequestBody({JSON: CallFunction}, schemas.CALLS),
    answers={
        200: Json("The ended call, also if the handler failed.", schemas.RESULT, schemas.RESULT_EXAMPLE),
        **schemas.errors(400, 404, *_FAULTS),
    },
    has_own_errors=True,
)
def run_function(name: str) -> Response:
    """Call a function and respond when it has ended."""
    try:
        caller, asked, body = _call(name, stream=False)
        run = execute_request(asked, caller, body)
    except ApiError as e:
        return render_call(e)
    stdout, stderr, code, late = result_fields(run.document)
    result = {"stdout": stdout, "stderr": stderr, "exit_code": code, "timeout": late}
    return answer(run, orjson.dumps(result))


@blueprint.post("/api/function/<name>/run/stream")
@operation(
    "Call a function as tinirun does, and stream what it says",
    tag=NAME,
    auth=_AUTH,
    path=_NAME,
    body=RequestBody({JSON: CallFunction}, schemas.CALLS),
    answers={200: schemas.STREAM, **schemas.errors(400, 404, *_FAULTS)},
    has_own_errors=True,
)
def stream_function(name: str) -> Response:
    """Call a function and stream what it says."""
    media = media_of_request()
    try:
        caller, asked, body = _call(name, stream=True)
        stream = stream_run(asked, caller, body)
    except ApiError as e:
        return render_call(e)
    return stream.answer(encoded(run_chunks(stream.messages), media), schemas.content_type(media))


def _call(name: str, *, stream: bool) -> tuple[Caller, RunRequest, bytes]:
    """Return the caller of a call, the run that it asks for, and what is recorded of it. Raises ApiError."""
    caller = require_runner_with_room(own_key=True)
    asked = parse_call(parse_object(read_json_body(request)))
    fields = {"input": asked.input, "limits": limits_of(asked, caller.plan) | {"max_artifact_files": 0}}
    ready = context().functions.newest_ready(caller.id, name)
    try:
        own = parse_own_call(fields)
    except ApiError as e:
        rename_field(e, LIMIT_NAMES)
        raise
    body = orjson.dumps({"function": name, **fields})
    return caller, call_request(ready.call, own.input, own.limits, stream=stream), body


def _build(caller: Caller, name: str, fields: dict[str, Any], names: dict[str, str], *, is_new: bool) -> Response:
    """Build a version of a function, and answer with the stream of the build. Raises ApiError."""
    service = context().functions
    language = context().languages.find(fields["language"])
    media = media_of_request()
    try:
        deployment = service.begin(name, parse_function(fields, language.id, language.entry_file), caller)
        if deployment.is_new != is_new:
            service.discard(deployment.version)  # another request has created or deleted it meanwhile
            raise invalid(EXISTS, param="name") if is_new else unknown_function()
        stream = open_stream(
            lambda source: service.build(
                deployment, caller, wait="events", signer=signer(), client_fd=client_fd(), source=source
            )
        )
    except ApiError as e:
        rename_field(e, names)
        raise
    found = encoded(build_chunks(stream.messages, lambda: service.built(deployment)), media)
    return stream.answer(found, schemas.content_type(media))

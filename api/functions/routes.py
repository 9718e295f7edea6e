"""`/v1/functions`: deploy a function, look at functions, call one, delete one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import orjson
from flask import Blueprint, Response, request

from api.context import context, next_url, require_caller
from api.errors import JSON, ApiError, invalid
from api.functions.answers import Function, FunctionDeleted, FunctionList
from api.functions.handlers import call_request
from api.functions.objects import function_object
from api.functions.requests import (
    CallIn,
    FunctionIn,
    parse_call,
    parse_function,
    parse_name,
    parse_reference,
)
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, parse_object, read_json_body
from api.http.json_response import document_response, json_response
from api.http.media import NDJSON, SSE, media_type
from api.http.pagination import list_body, parse_list
from api.openapi import examples
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY, LISTED
from api.openapi.models import Run as RunAnswer
from api.openapi.parameters import EVENTS, IDEMPOTENCY, PAGING
from api.runs.rendering import client_fd, events_response, run_and_answer, signer

if TYPE_CHECKING:
    from api.functions.service import Deployment, FunctionService
    from api.keys.authentication import Caller
    from api.runs.events import Message

blueprint = Blueprint("functions", __name__)

_PATH = {"name": "The name of the function; `name@3` is its version 3."}
_NAME = {"name": "The name of the function: 1 to 64 letters, digits, `_` or `-`."}
_VERSION = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
_EXAMPLE = {
    "language": "python",
    "code": "def run(input):\n    return sum(input['numbers'])\n",
    "input_schema": {
        "type": "object",
        "required": ["numbers"],
        "properties": {"numbers": {"type": "array", "items": {"type": "number"}}},
    },
}
#: As a run's, but for the last one.
_BUILD_EVENTS = {
    media: {"type": "string", "description": "One `Event` each; the data of the last, `result`, are the function."}
    for media in EVENTS
}
#: Of everything that starts a run.
_RUNS = (
    "limit_below_minimum", "limit_exceeds_maximum", "not_acceptable", "worker_lost", "interrupted",
    "quota_exceeded", "too_many_runs", "too_many_connections", "storage_quota_exceeded", "file_damaged",
    "overloaded", "language_not_ready", "worker_unavailable", "storage_unavailable", "storage_low",
)  # fmt: skip


@blueprint.put("/v1/functions/<name>")
@operation(
    "Deploy a function",
    tag="functions",
    description=(
        "Makes the next version of the function of that name and builds it: checks its handler, or compiles it. "
        "`state` is the outcome, and `log` the output; the build is a run, and counts as one. A name refers to the "
        "newest version that is ready."
    ),
    path=_NAME,
    body=RequestBody({JSON: FunctionIn}, {"python": _EXAMPLE}),
    answers={
        200: Answer(
            "The new version of a function that there was; with `stream` the events of the build, closed by "
            "`result`, whose data are the function.",
            {JSON: Function, **_BUILD_EVENTS},
        ),
        201: Json("The first version of the function.", Function),
        202: Json("The version is being built in the background.", Function),
    },
    errors=(
        *JSON_BODY, *_RUNS, "too_long", "invalid_path", "duplicate_path", "invalid_base64", "unknown_language",
        "not_supported", "too_many_functions",
    ),
)  # fmt: skip
def put_function(name: str) -> Response:
    """Deploy the next version of a function, and answer with it when it is built, with its build, or at once."""
    caller = _writer()
    name = parse_name(name)
    data = parse_object(read_json_body(request))
    given = data.get("language")
    language = context().languages.find(given) if isinstance(given, str) else None
    asked = parse_function(data, language.id if language else "", language.entry_file if language else "")
    media = media_type(request.accept_mimetypes) if asked.stream else NDJSON
    service = context().functions
    deployment = service.begin(name, asked, caller)
    execution = service.build(
        deployment,
        caller,
        wait="background" if asked.background else "events" if asked.stream else "result",
        signer=signer(),
        client_fd=client_fd(),
    )
    try:
        if isinstance(execution.outcome, Iterator):
            events = _build_events(service, deployment, execution.outcome)
            return events_response(events, media, execution.release)
    except BaseException:
        execution.release()
        raise
    execution.release()
    status = 202 if asked.background else 201 if deployment.is_new else 200
    return json_response(service.built(deployment), status)


def _build_events(service: FunctionService, deployment: Deployment, events: Iterator[Message]) -> Iterator[Message]:
    """Yield the events of a build, with the function in place of the run at the end."""
    for message in events:
        if message["event"] == "result":
            yield message | {"data": service.built(deployment)}
        else:
            yield message


@blueprint.get("/v1/functions")
@operation(
    "List your functions",
    tag="functions",
    query=PAGING,
    answers={200: Json("The newest first, unless `order=asc`; without their source and log.", FunctionList)},
    errors=LISTED,
)
def list_functions() -> Response:
    """List the caller's functions, page by page: the newest first unless `order=asc`."""
    caller = require_caller(reading=True)
    asked = parse_list(request.args)
    page = context().records.functions.list(caller.id, limit=asked.limit, after=asked.after, order=asked.order)
    service = context().functions
    rows = [(found.name, function_object(service.settled(found), None)) for found in page.items]
    following = next_url(rows[-1][0] if page.has_more else None)
    return document_response(list_body(rows, has_more=page.has_more, next_url=following))


@blueprint.get("/v1/functions/<name>")
@operation(
    "Get a function",
    tag="functions",
    path=_PATH,
    query=(Query("version", "The number of a version.", _VERSION),),
    answers={200: Json("The version that is named: the newest ready one, or else the newest.", Function)},
    errors=(
        "function_not_found", "invalid_value", "unknown_field", "file_damaged", "storage_unavailable",
        "too_many_connections", "overloaded",
    ),
)  # fmt: skip
def get_function(name: str) -> Response:
    """Return a version of one of the caller's functions. 404 for one that is unknown or another's."""
    caller = require_caller(reading=True)
    service = context().functions
    found = service.get(caller.id, parse_reference(name, _version()))
    body = orjson.dumps(function_object(found, service.source(found)))
    release = context().places.readers.acquire_for_response(len(body), caller.id)
    response = document_response(body)
    response.call_on_close(release)
    return response


@blueprint.delete("/v1/functions/<name>")
@operation(
    "Delete a function",
    tag="functions",
    description="Deletes all its versions. Their numbers are not used again. Its runs are kept.",
    path=_NAME,
    answers={200: Json("Deleted.", FunctionDeleted)},
    errors=("function_not_found", "invalid_value"),
)
def delete_function(name: str) -> Response:
    """Forget a function with all its versions. 404 for one that is unknown or another's."""
    caller = require_caller(reading=False)
    context().functions.delete(caller.id, parse_name(name))
    return json_response({"name": name, "object": "function", "deleted": True})


@blueprint.post("/v1/functions/<name>/runs")
@operation(
    "Call a function",
    tag="functions",
    description=(
        "Runs the handler in a fresh sandbox. The run has `function`, `version` and `output`; all that the handler "
        "prints is its stdout. A call waits for the first build of its function."
    ),
    path=_PATH,
    query=(IDEMPOTENCY,),
    body=RequestBody({JSON: CallIn}, {"numbers": {"input": {"numbers": [1, 2, 3]}}}),
    answers={
        200: Answer(
            "The ended run, also if the handler failed; with `stream` its events.",
            {JSON: RunAnswer, **EVENTS},
            {"ended": examples.CALL, NDJSON: examples.NDJSON, SSE: examples.SSE},
        ),
        202: Json("The run was accepted and runs in the background.", RunAnswer, {"queued": examples.QUEUED}),
    },
    errors=(
        *JSON_BODY, *_RUNS, "too_long", "invalid_input", "function_not_found", "function_failed",
        "idempotency_key_in_use", "idempotency_key_used", "idempotency_mismatch",
    ),
)  # fmt: skip
def create_function_run(name: str) -> Response:
    """Call a function; the answers are those of `POST /v1/runs`."""
    caller = _writer()
    data = parse_object(read_json_body(request))
    reference = parse_reference(name)
    asked = parse_call(data)
    release = context().places.waiters.acquire(caller.id)
    try:
        found = context().functions.ready(caller.id, reference)
    finally:
        release()
    problem = None if found.schema is None else found.schema.problem(asked.input)
    if problem is not None:
        raise invalid(f"{problem.param}: {problem.message}", param=problem.param, code="invalid_input")
    run = call_request(found.call, asked.input, asked.limits, stream=asked.stream, background=asked.background)
    # Recorded, and compared with an Idempotency-Key's: the same body is another request to another function.
    body = orjson.dumps({"function": name, **data})
    return run_and_answer(run, caller, body)


def _writer() -> Caller:
    """Return the caller of a call that starts a run. Raises ApiError 401, 429 or 503."""
    try:
        caller = require_caller(reading=False)
        context().room.require()
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    return caller


def _version() -> str | None:
    """Return the version in the query. Raises ApiError 400 for any other parameter."""
    if set(request.args) - {"version"}:
        raise invalid("version: is the only parameter here", param=None, code="unknown_field")
    if len(request.args.getlist("version")) > 1:
        raise invalid("version: is given twice", param="version")
    return request.args.get("version")

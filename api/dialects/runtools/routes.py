"""`/v1/execute` and `/v1/runtimes`: RunTools' routes."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api.context import context
from api.dialects.answers import exact_document
from api.dialects.caller import require_dialect_caller
from api.dialects.execution import answer, discard_body, execute, require_room
from api.dialects.field_names import rename_field
from api.dialects.runtools import schemas
from api.dialects.runtools.answers import add_rate_headers, render, result_of, runtimes_of
from api.dialects.runtools.requests import RunToolsRequest, check_runtime, order_of, parse
from api.errors import JSON, ApiError, answer_error
from api.http.body import parse_object, read_json_body
from api.openapi.decorator import Json, RequestBody, operation
from api.system.languages import SHOWN_AGE_S

NAME = "runtools"
KEYLESS: tuple[str, ...] = ("/v1/execute",)
OWN: tuple[str, ...] = ("/v1/execute", "/v1/runtimes", "/v1/sandboxes")

__all__ = ["KEYLESS", "NAME", "OWN", "blueprint", "render"]

blueprint = Blueprint(NAME, __name__)
blueprint.register_error_handler(Exception, lambda e: answer_error(e, render))
blueprint.after_request(add_rate_headers)


@blueprint.post("/v1/execute")
@operation(
    "Execute a program as RunTools does",
    tag=NAME,
    auth=("none", "key", "api_key"),
    description=(
        "A request with `runtime` is answered with `data` and `meta`, one with `language` with `run` and, for a "
        "compiled language, `compile`."
    ),
    body=RequestBody({JSON: RunToolsRequest}, schemas.REQUESTS),
    answers={
        200: Json("The ended run, also if its program failed.", schemas.RESULT, schemas.RESULTS),
        **schemas.errors(400, 401, 403, 408, 413, 415, 429, 500, 503),
    },
    has_own_errors=True,
)
def execute_as_runtools() -> Response:
    """Run a program and respond when it has ended."""
    try:
        caller = require_dialect_caller()
        require_room()
    except ApiError:
        discard_body()
        raise
    asked = parse(parse_object(read_json_body(request)))
    languages = context().languages
    try:
        check_runtime(asked, (item.id for item in languages.offered(SHOWN_AGE_S).languages))
        language = languages.find(asked.named)
    except ApiError as e:
        rename_field(e, {"language": asked.names_language})
        raise
    order = order_of(asked, language, caller.plan)
    try:
        run = execute(order.fields, caller, compile_limits=order.compile_limits)
    except ApiError as e:
        rename_field(e, order.names)
        raise
    return answer(run, result_of(asked, language, run.document))


@blueprint.get("/v1/runtimes")
@operation(
    "List RunTools' runtimes",
    tag=NAME,
    auth=("none", "key", "api_key"),
    answers={
        200: Json("The languages that are ready.", schemas.RUNTIMES, schemas.RUNTIMES_EXAMPLE),
        **schemas.errors(401, 403, 429, 500, 503),
    },
    has_own_errors=True,
)
def list_runtimes() -> Response:
    """List the languages that are ready."""
    require_dialect_caller(reading=True)
    return exact_document(runtimes_of(context().languages.offered()))

"""`/api/execute`, `/api/run/{language}`, `/api/languages` and `/api/keys` as agent-coderunner has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context
from api.dialects.agentcoderunner import executions, files, schemas, sessions
from api.dialects.agentcoderunner.answers import answer_run, quota_as_payment, render
from api.dialects.agentcoderunner.callers import key_in_query, require_caller_or_address
from api.dialects.agentcoderunner.languages import rows_of
from api.dialects.agentcoderunner.mounting import GATEWAY, NAME, mount, mount_gateway
from api.dialects.agentcoderunner.requests import (
    MAX_TIMEOUT_MS,
    NAMES,
    ProgramRequest,
    parse_execute,
    parse_query,
    request_of_query,
    run_fields,
)
from api.dialects.answers import exact_json
from api.dialects.execution import discard_body, execute, require_room
from api.dialects.field_names import rename_field
from api.dialects.shared_paths import Claim
from api.errors import JSON, ApiError, answer_error
from api.http.body import parse_object, read_json_body
from api.keys.routes import issue_self_service, require_self_service
from api.openapi.decorator import Json, Query, RequestBody, operation
from api.system.languages import SHOWN_AGE_S

if TYPE_CHECKING:
    from api.keys.authentication import Caller

_KEYLESS = ("/api/execute", "/api/run/")
KEYLESS: tuple[str, ...] = ("/execute", *_KEYLESS, *(GATEWAY + prefix for prefix in _KEYLESS))
OWN: tuple[str, ...] = (
    "/api/execute/", "/api/run/", "/api/languages/", "/api/keys/", "/api/sessions/", "/api/executions/",
    f"{GATEWAY}/",
)  # fmt: skip
SHARED = sessions.SHARED

__all__ = ["EXECUTE", "GATEWAY", "KEYLESS", "NAME", "OWN", "SHARED", "blueprint", "query_key", "render"]

blueprint = Blueprint(NAME, __name__)
blueprint.register_error_handler(Exception, lambda e: answer_error(e, render))


def query_key(path: str, query: str) -> str | None:
    """Return the key in the query of a request by its path; None without one, and on paths of others."""
    return key_in_query(query) if f"{path}/".startswith(OWN) else None


@operation(
    "Execute a program as agent-coderunner does",
    tag=NAME,
    auth=schemas.ANYBODY,
    description="Responds when the program has ended. Without a key where self-service is on, counted by address.",
    body=RequestBody({JSON: ProgramRequest}, schemas.REQUESTS),
    answers={
        200: Json("The ended program, also if it failed.", schemas.RESULT, {"ended": schemas.RESULT_EXAMPLE}),
        **schemas.errors(400, 401, 402, 403, 408, 413, 415),
    },
    has_own_errors=True,
)
def execute_as_agent_coderunner() -> Response:
    """Run a program and respond when it has ended."""
    try:
        caller = _caller()
    except ApiError:
        discard_body()
        raise
    return _run(parse_execute(parse_object(read_json_body(request))), caller)


@operation(
    "Execute a program given in the query as agent-coderunner does",
    tag=NAME,
    auth=schemas.ANYBODY,
    path={"language": "`python`, `javascript`, `typescript` or `bash`."},
    query=(
        Query("code", "The program.", schemas.TEXT, required=True),
        Query("stdin", "The input of the program.", schemas.TEXT),
        Query("timeout", "Milliseconds.", {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS}),
    ),
    answers={
        200: Json("As of `POST /api/execute`.", schemas.RESULT, {"ended": schemas.RESULT_EXAMPLE}),
        **schemas.errors(400, 401, 402, 403, 405),
    },
    has_own_errors=True,
)
def run_query_as_agent_coderunner(language: str) -> Response:
    """Run a program that is given in the query, and respond when it has ended."""
    if request.method != "GET":
        # A HEAD must not execute anything.
        raise ApiError(
            405, "Method not allowed; allowed: GET.", code="method_not_allowed", headers={"Allow": "GET"}
        )
    caller = _caller()
    return _run(request_of_query(language, parse_query(request.query_string)), caller)


@operation(
    "List agent-coderunner's languages",
    tag=NAME,
    auth=schemas.ANYBODY,
    answers={
        200: Json(
            "The languages that are ready.",
            schemas.LANGUAGES,
            {"one": {"languages": [{"id": "python", "name": "Python 3.13", "version": "3.13.5"}]}},
        ),
        **schemas.errors(401, 403),
    },
    has_own_errors=True,
)
def list_languages_of_agent_coderunner() -> Response:
    """List the languages that are ready."""
    require_caller_or_address(reading=True)
    return exact_json({"languages": rows_of(context().languages.offered(SHOWN_AGE_S))})


@operation(
    "Create a key as agent-coderunner does",
    tag=NAME,
    auth=("none",),
    description="A key of the plan `free`, if the service allows self-service. `/api/keys/create` is the same.",
    answers={
        200: Json(
            "The key. It is shown only here.",
            schemas.NEW_KEY,
            {"made": {"apiKey": "ry_…", "key": "ry_…", "plan": "free"}},
        ),
        **schemas.errors(403),
    },
    has_own_errors=True,
)
def create_key_as_agent_coderunner() -> Response:
    """Create a key of the plan `free` for any client, if self-service is on. The body is not looked at."""
    discard_body()
    require_self_service()
    made = issue_self_service()
    return exact_json({"apiKey": made.text, "key": made.text, "plan": made.stored.plan})


def _shared_execute(body: bytes) -> Response:
    caller = _caller()
    return _run(parse_execute(parse_object(body)), caller)


#: A request to `/execute`, for pages whose address of the service is all but that word.
EXECUTE = Claim(NAME, _shared_execute, render, keys=frozenset({"code", "language"}), needs_all=True)


def _caller() -> Caller:
    caller = require_caller_or_address()
    require_room()
    return caller


def _run(asked: ProgramRequest, caller: Caller) -> Response:
    fields = run_fields(asked, caller.plan)
    try:
        run = execute(fields, caller)
    except ApiError as e:
        rename_field(e, NAMES)
        raise quota_as_payment(e, caller) from e
    return answer_run(run)


mount(
    blueprint,
    (
        ("/api/execute", "POST", execute_as_agent_coderunner),
        ("/api/run/<language>", "GET", run_query_as_agent_coderunner),
        ("/api/languages", "GET", list_languages_of_agent_coderunner),
        ("/api/keys", "POST", create_key_as_agent_coderunner),
    ),
)
mount(blueprint, (("/api/keys/create", "POST", create_key_as_agent_coderunner),), listed=False)
mount(blueprint, sessions.ROUTES)
for path, method, view in sessions.GATEWAY_ROUTES:
    mount_gateway(blueprint, path, method, view)
mount(blueprint, files.ROUTES)
mount(blueprint, executions.ROUTES)

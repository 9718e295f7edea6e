"""`POST /api` and `GET /health`: runakode's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context
from api.dialects.answers import exact_json
from api.dialects.caller import require_dialect_caller
from api.dialects.execution import answer, discard_body, execute, require_room
from api.dialects.runakode.translate import (
    RunakodeRequest,
    RunakodeResult,
    fields_of,
    limits_of,
    parse,
    render,
    result_of,
)
from api.dialects.shared_paths import Claim, SharedPath
from api.errors import JSON, ApiError, answer_error
from api.http.body import read_body
from api.openapi.decorator import Answer, Json, Operation, RequestBody, operation
from api.openapi.document import HIDDEN
from api.system.languages import READY_AGE_S
from api.system.routes import is_healthy
from config.version import VERSION

if TYPE_CHECKING:
    from api.runs.requests import Isolation

NAME = "runakode"
KEYLESS: tuple[str, ...] = ("/api",)

blueprint = Blueprint(NAME, __name__)
blueprint.register_error_handler(Exception, lambda e: answer_error(e, render))

_TEXT = {"text/plain": {"type": "string"}}
_EXAMPLE = {"stdout": "2\n", "stderr": "", "exit_code": 0, "timeout": False, "exec_time_ms": 14}
_LATE = {"stdout": "", "stderr": "", "exit_code": 137, "timeout": True, "exec_time_ms": 10_004}


@blueprint.route("/api", methods=["POST"], provide_automatic_options=False)
@operation(
    "Run a program as runakode does",
    tag=NAME,
    auth=("none", "key", "api_key"),
    body=RequestBody({JSON: RunakodeRequest}, {"run": {"language": "python", "source_code": "print(1+1)"}}),
    answers={
        200: Json("The ended run, also if its program failed.", RunakodeResult, {"ended": _EXAMPLE}),
        400: Answer("Invalid JSON, an empty source, an unknown language, or a source that is too long.", _TEXT),
        401: Answer("The key is missing or invalid.", _TEXT),
        403: Answer("The plan of the key no longer exists.", _TEXT),
        408: Answer("The body did not arrive in time.", _TEXT),
        413: Answer("The body is too large, or the key keeps too many files.", _TEXT),
        429: Answer("The rate limit, the quota or the share of the key is used up.", _TEXT),
        500: Answer("The service failed, not the request.", _TEXT),
        503: Answer("Temporarily unavailable; nothing was started.", _TEXT),
        504: Json("The program ran out of time; the fields are those of 200.", RunakodeResult, {"late": _LATE}),
    },
    has_own_errors=True,
)
def run_as_runakode() -> Response:
    """Run a program and respond when it has ended."""
    try:
        caller = require_dialect_caller()
        require_room()
    except ApiError:
        discard_body()
        raise
    asked = parse(read_body(request))
    limits = limits_of(context().settings, caller.plan)
    run = execute(fields_of(asked, _isolation(), limits), caller)
    status, body = result_of(run.document)
    return answer(run, body, status=status)


@blueprint.route(
    "/api",
    methods=["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"],
    provide_automatic_options=False,
)
@operation("Refuse another method", tag=HIDDEN, answers={})
def refuse_method_of_runakode() -> Response:
    """Refuse every method but POST."""
    discard_body()
    raise ApiError(405, "Wrong method!", code="method_not_allowed", headers={"Allow": "POST"})


def _isolation() -> Isolation:
    """Return the isolation of RUNAKODE_ISOLATION, or the default where the service has no gVisor."""
    wanted = context().settings.runakode_isolation
    if wanted == "gvisor" and wanted not in context().languages.offered(READY_AGE_S).isolations:
        return "default"
    return wanted


def _health(_body: bytes) -> Response:
    good = is_healthy()
    report = {"status": "ok" if good else "degraded", "ok": good, "version": VERSION}
    return exact_json(report)


HEALTH = SharedPath(
    "/health",
    "GET",
    (Claim(NAME, _health, render),),
    Operation(
        "Service health, as runakode reports it",
        tag=NAME,
        auth=("none",),
        description="`degraded`, with `ok` false, if a check of `/v1/health` fails. No token is needed.",
        answers={
            200: Json(
                "Always: `ok` or `degraded`.",
                {
                    "type": "object",
                    "required": ["status", "ok", "version"],
                    "properties": {
                        "status": {"enum": ["ok", "degraded"]},
                        "ok": {"type": "boolean"},
                        "version": {"type": "string"},
                    },
                },
                {"ok": {"status": "ok", "ok": True, "version": VERSION}},
            )
        },
        has_own_errors=True,
    ),
)

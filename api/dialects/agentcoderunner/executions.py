"""`/api/executions`: the caller's runs as agent-coderunner shows its history."""

from __future__ import annotations

from flask import Response

from api.dialects.agentcoderunner import schemas
from api.dialects.agentcoderunner.answers import answer_run, listed, recorded
from api.dialects.agentcoderunner.callers import require_key
from api.dialects.agentcoderunner.ids import execution_id, run_id, session_id
from api.dialects.agentcoderunner.mounting import NAME, Route
from api.dialects.agentcoderunner.paging import next_cursor, parse_page
from api.dialects.agentcoderunner.sessions import CURSOR, LIMIT
from api.dialects.answers import exact_json
from api.dialects.execution import recorded_run
from api.errors import ApiError
from api.http.ids import bounded
from api.openapi.decorator import Json, Query, operation
from api.runs.listing import page_of

SUBJECT = "Executions of the past"


@operation(
    "List executions as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    description="All runs of the key, the newest first, without their outputs.",
    query=(LIMIT, CURSOR, Query("sessionId", "Only those in this session.", schemas.TEXT)),
    answers={
        200: Json(
            "The newest first.",
            schemas.EXECUTIONS,
            {"one": {"executions": [schemas.LISTED_EXAMPLE], "hasMore": False, "nextCursor": None}},
        ),
        **schemas.errors(400, 401, 403),
    },
    has_own_errors=True,
)
def list_executions() -> Response:
    """List the caller's runs, page by page."""
    caller = require_key(SUBJECT, reading=True)
    asked = parse_page(run_id)
    within = asked.query.get("sessionId")
    only = None if within is None else session_id(bounded(within)) or ""
    found, last = page_of(caller.id, limit=asked.limit, after=asked.after, session_id=only)
    rows = [listed(document) for document in found]
    return exact_json({"executions": rows, **next_cursor(None if last is None else execution_id(last))})


@operation(
    "Get an execution as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    path={"execution": "The execution's id, `exec-…`."},
    answers={
        200: Json("The execution, in any state.", schemas.RECORDED, {"ended": schemas.RECORDED_EXAMPLE}),
        **schemas.errors(401, 403, 404),
    },
    has_own_errors=True,
)
def get_execution(execution: str) -> Response:
    """Return one of the caller's runs with its outputs."""
    caller = require_key(SUBJECT, reading=True)
    own_id = run_id(execution)
    found = None if own_id is None else recorded_run(caller.id, own_id)
    if found is None:
        raise ApiError(404, "There is no such execution.", code="run_not_found")
    return answer_run(found, recorded)


ROUTES: tuple[Route, ...] = (
    ("/api/executions", "GET", list_executions),
    ("/api/executions/<execution>", "GET", get_execution),
)

"""`/api/sessions`: agent-coderunner's sessions, whose files and variables stay from one execution to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, request

from api.context import context
from api.dialects.agentcoderunner import schemas
from api.dialects.agentcoderunner.answers import answer_run, quota_as_payment, render, session_of
from api.dialects.agentcoderunner.callers import require_key
from api.dialects.agentcoderunner.cells import run_cell
from api.dialects.agentcoderunner.ids import session_id, shown_session_id
from api.dialects.agentcoderunner.mounting import NAME, Route
from api.dialects.agentcoderunner.paging import next_cursor, parse_page
from api.dialects.agentcoderunner.requests import (
    NAMES,
    CellRequest,
    NewSessionRequest,
    cell_fields,
    parse_cell,
    session_fields,
)
from api.dialects.answers import exact_json
from api.dialects.execution import discard_body, require_room
from api.dialects.field_names import rename_field
from api.dialects.reserved import JUPYTER_SESSION
from api.dialects.shared_paths import Claim, SharedPath
from api.errors import JSON, ApiError
from api.http.body import parse_object, read_body, read_json_body
from api.openapi.decorator import Json, Operation, Query, RequestBody, operation
from api.sessions.listing import page_of
from api.sessions.objects import ended
from api.sessions.requests import parse_session
from api.system.languages import SHOWN_AGE_S

if TYPE_CHECKING:
    from api.keys.authentication import Caller

SUBJECT = "Sessions"
PATH = {"session": "The session's id, `sess-…`."}
CURSOR = Query("cursor", "The `nextCursor` of the page before.", schemas.TEXT)
LIMIT = Query("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20})

CREATE = Operation(
    "Create a session as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    description="It ends 20 minutes after its last use, and with the age that the plan allows.",
    body=RequestBody({JSON: NewSessionRequest}, {"python": {"language": "python"}}, required=False),
    answers={
        200: Json(
            "The session.",
            schemas.MADE_SESSION,
            {"made": {name: schemas.SESSION_EXAMPLE[name] for name in ("sessionId", "language")}},
        ),
        **schemas.errors(400, 401, 402, 403, 404, 408, 413),
    },
    has_own_errors=True,
)
LIST = Operation(
    "List sessions as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    query=(LIMIT, CURSOR),
    answers={
        200: Json(
            "Those that live, the newest first.",
            schemas.SESSIONS,
            {"one": {"sessions": [schemas.SESSION_EXAMPLE], "hasMore": False, "nextCursor": None}},
        ),
        **schemas.errors(400, 401, 403, 404),
    },
    has_own_errors=True,
)


def create_session(body: bytes) -> Response:
    """Create a session."""
    caller = require_key(SUBJECT, reading=False)
    require_room()
    asked = parse_session(session_fields(parse_object(body) if body else {}, caller.plan))
    release = context().places.waiters.acquire(caller.id)
    try:
        made, _ = context().sessions.create(asked, caller)
    except ApiError as e:
        raise quota_as_payment(e, caller) from e
    finally:
        release()
    shown = session_of(made, context().languages.offered(SHOWN_AGE_S))
    return exact_json({name: shown[name] for name in ("sessionId", "language")})


def list_sessions(_body: bytes) -> Response:
    """List the caller's sessions that live."""
    caller = require_key(SUBJECT, reading=True)
    asked = parse_page(session_id)
    found, has_more = page_of(caller.id, limit=asked.limit, after=asked.after, live=True)
    offered = context().languages.offered(SHOWN_AGE_S)
    last = shown_session_id(found[-1]["id"]) if has_more else None
    return exact_json({"sessions": [session_of(item, offered) for item in found], **next_cursor(last)})


@operation(
    "Get a session as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    path=PATH,
    answers={
        200: Json("The session.", schemas.SESSION, {"live": schemas.SESSION_EXAMPLE}),
        **schemas.errors(401, 403, 404),
    },
    has_own_errors=True,
)
def get_session_of_agent_coderunner(session: str) -> Response:
    """Return one of the caller's sessions that live."""
    caller = require_key(SUBJECT, reading=True)
    found = context().sessions.get(caller.id, live_session(caller, session))
    if found["end_reason"] is not None:  # it has just been noticed
        raise ended(found)
    return exact_json(session_of(found, context().languages.offered(SHOWN_AGE_S)))


@operation(
    "End a session as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    path=PATH,
    description="Ends everything in it; its files are gone.",
    answers={
        200: Json("The session has ended.", schemas.ENDED_SESSION),
        **schemas.errors(401, 403, 404),
    },
    has_own_errors=True,
)
def delete_session_of_agent_coderunner(session: str) -> Response:
    """End a session with all that is in it."""
    caller = require_key(SUBJECT, reading=False)
    context().sessions.end(caller.id, live_session(caller, session))
    return exact_json({"sessionId": session, "deleted": True})


@operation(
    "Execute a program in a session as agent-coderunner does",
    tag=NAME,
    auth=schemas.KEY,
    path=PATH,
    description="Responds when it has ended. Files and variables stay for the executions that follow.",
    body=RequestBody({JSON: CellRequest}, {"first": {"code": "x = 42"}, "second": {"code": "print(x * 2)"}}),
    answers={
        200: Json(
            "The ended program, also if it failed.",
            schemas.RESULT,
            {"second": schemas.RESULT_EXAMPLE | {"stdout": "84"}},
        ),
        **schemas.errors(400, 401, 402, 403, 404, 408, 409, 413, 415),
    },
    has_own_errors=True,
)
def execute_in_session_of_agent_coderunner(session: str) -> Response:
    """Run a program in a session and respond when it has ended."""
    try:
        caller = require_key(SUBJECT, reading=False)
        found = live_session(caller, session)
        require_room()
    except ApiError:
        discard_body()
        raise
    asked = parse_cell(parse_object(read_json_body(request)))
    language = context().sessions.live(caller.id, found).language
    fields = cell_fields(asked, language, caller.plan, context().settings.session_timeout_max_ms)
    try:
        run = run_cell(fields, caller, found)
    except ApiError as e:
        rename_field(e, NAMES)
        raise quota_as_payment(e, caller) from e
    return answer_run(run)


def live_session(caller: Caller, shown: str) -> str:
    """Return the id of the caller's session that a client names. Raises ApiError 404, or 410 for one that ended."""
    found = session_id(shown)
    if found is None:
        raise ApiError(404, "There is no such session.", code="session_not_found")
    return context().sessions.live(caller.id, found).id


_ONE = "/api/sessions/<session>"
ROUTES: tuple[Route, ...] = (
    (_ONE, "GET", get_session_of_agent_coderunner),
    (_ONE, "DELETE", delete_session_of_agent_coderunner),
    (f"{_ONE}/execute", "POST", execute_in_session_of_agent_coderunner),
)
#: Jupyter's clients ask for the same path. At the gateway no other service does.
SHARED: tuple[SharedPath, ...] = (
    SharedPath("/api/sessions", "POST", (JUPYTER_SESSION, Claim(NAME, create_session, render)), CREATE),
    SharedPath("/api/sessions", "GET", (Claim(NAME, list_sessions, render),), LIST),
)
GATEWAY_ROUTES: tuple[Route, ...] = (
    ("/api/sessions", "POST", lambda: create_session(read_body(request))),
    ("/api/sessions", "GET", lambda: list_sessions(b"")),
)

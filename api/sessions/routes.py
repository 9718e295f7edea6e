"""`/v1/sessions`: create a session, look at sessions, run programs in one, end one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context, next_url, require_caller
from api.errors import JSON, ApiError, invalid
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, parse_object, read_json_body
from api.http.json_response import document_response, json_response
from api.http.media import NDJSON, SSE
from api.http.pagination import list_body, parse_list
from api.openapi import examples
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY, LISTED
from api.openapi.models import Run as RunAnswer
from api.openapi.parameters import EVENTS, IDEMPOTENCY, PAGING
from api.runs.rendering import run_and_answer
from api.runs.requests import RunIn, parse_run
from api.runs.submission import parse_idempotency_key
from api.sessions.answers import Session, SessionDeleted, SessionList
from api.sessions.requests import SessionIn, parse_session

if TYPE_CHECKING:
    from api.keys.authentication import Caller

blueprint = Blueprint("sessions", __name__)

PATH = {"session_id": "The session's id."}
#: What a call inside a session may come to beside its own.
INSIDE = ("session_not_found", "session_ended", "session_busy", "worker_unavailable", "overloaded")
#: What a run in a session takes from its session.
NOT_IN_A_SESSION = ("isolation",)
#: The limits that a run in a session has of its own.
RUN_LIMITS = ("timeout_ms", "max_output_bytes", "max_artifact_bytes", "max_artifact_files")


@blueprint.post("/v1/sessions")
@operation(
    "Create a session",
    tag="sessions",
    description=(
        "A sandbox that stays alive, for runs, processes and files. With the `name` of a live session of yours "
        "that one is returned."
    ),
    body=RequestBody({JSON: SessionIn}, {"python": {"language": "python", "idle_timeout_s": 600}}),
    answers={
        200: Json("The live session of that name.", Session),
        201: Json("The session was created.", Session),
    },
    errors=(
        *JSON_BODY, "too_long", "invalid_path", "duplicate_path", "invalid_base64", "unknown_language",
        "limit_below_minimum", "limit_exceeds_maximum", "not_supported", "session_differs", "overloaded",
        "too_many_sessions", "language_not_ready", "worker_unavailable", "engine_error", "storage_low", "disk_full",
    ),
)  # fmt: skip
def create_session() -> Response:
    """Create a session, or find the live one of that name."""
    try:
        caller = require_caller(reading=False)
        context().room.require()
        release = context().places.waiters.acquire(caller.id)
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    try:
        asked = parse_session(parse_object(read_json_body(request)))
        made, is_new = context().sessions.create(asked, caller)
    finally:
        release()
    return json_response(made, 201 if is_new else 200)


@blueprint.get("/v1/sessions")
@operation(
    "List your sessions",
    tag="sessions",
    query=(
        *PAGING,
        Query("status", "Only sessions that live, or have ended.", {"type": "string", "enum": ["live", "ended"]}),
        Query("name", "Only sessions of this name.", {"type": "string"}),
    ),
    answers={200: Json("The newest first, unless `order=asc`.", SessionList)},
    errors=(*LISTED, "worker_unavailable"),
)
def list_sessions() -> Response:
    """List the caller's sessions, page by page: the newest first unless `order=asc`."""
    caller = require_caller(reading=True)
    asked = parse_list(request.args, filters=("status", "name"))
    status = asked.filters.get("status")
    if status not in (None, "live", "ended"):
        raise invalid("status: must be live or ended", param="status")
    page = context().records.sessions.list(
        caller.id,
        limit=asked.limit,
        after=asked.after,
        order=asked.order,
        live=None if status is None else status == "live",
        name=asked.filters.get("name"),
    )
    rows = [(made["id"], made) for made in context().sessions.objects(page.items)]
    return document_response(
        list_body(rows, has_more=page.has_more, next_url=next_url(rows[-1][0] if page.has_more else None))
    )


@blueprint.get("/v1/sessions/<session_id>")
@operation(
    "Get a session",
    tag="sessions",
    path=PATH,
    answers={200: Json("The session, live or ended.", Session)},
    errors=("session_not_found", "worker_unavailable"),
)
def get_session(session_id: str) -> Response:
    """Return one of the caller's sessions. 404 for one that is unknown or another's."""
    caller = require_caller(reading=True)
    return json_response(context().sessions.get(caller.id, session_id))


@blueprint.delete("/v1/sessions/<session_id>")
@operation(
    "Delete a session",
    tag="sessions",
    description="Ends everything in it. May be repeated.",
    path=PATH,
    answers={200: Json("The session has ended.", SessionDeleted)},
    errors=("session_not_found", "worker_unavailable"),
)
def delete_session(session_id: str) -> Response:
    """End a session with all that is in it."""
    caller = require_caller(reading=False)
    context().sessions.end(caller.id, session_id)
    return json_response({"id": session_id, "object": "session", "deleted": True})


@blueprint.post("/v1/sessions/<session_id>/runs")
@operation(
    "Run a program in a session",
    tag="sessions",
    description=(
        "As `POST /v1/runs`: a new process in the session's /work, where files stay. `language` may be left out. "
        "Runs of a session are executed in order."
    ),
    path=PATH,
    query=(IDEMPOTENCY,),
    body=RequestBody({JSON: RunIn}, {"code": {"code": "print(1+1)"}}),
    answers={
        200: Answer(
            "The ended run, also if its program failed; with `stream` its events.",
            {JSON: RunAnswer, **EVENTS},
            {"ended": examples.RUN, NDJSON: examples.NDJSON, SSE: examples.SSE},
        ),
        202: Json("The run was accepted and runs in the background.", RunAnswer, {"queued": examples.QUEUED}),
    },
    errors=(
        *JSON_BODY, *INSIDE, "too_long", "too_many", "invalid_path", "duplicate_path", "invalid_base64",
        "unknown_language", "limit_below_minimum", "limit_exceeds_maximum", "not_supported", "not_acceptable",
        "file_not_found@400", "files_too_large", "idempotency_key_in_use", "idempotency_key_used",
        "idempotency_mismatch", "worker_lost", "interrupted", "quota_exceeded", "too_many_runs",
        "too_many_connections", "storage_quota_exceeded", "file_damaged", "storage_unavailable", "storage_low",
        "disk_full", "file_not_permitted", "session_ended@500",
    ),
)  # fmt: skip
def create_session_run(session_id: str) -> Response:
    """Run a program in a session; the answers are those of `POST /v1/runs`."""
    try:
        caller = require_caller(reading=False)
        context().room.require()
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    body = read_json_body(request)
    parse_idempotency_key(request.headers.get("Idempotency-Key"), body)
    session = context().sessions.live(caller.id, session_id)
    asked = parse_object(body)
    for name in NOT_IN_A_SESSION:
        if asked.get(name) is not None:
            raise invalid(f"{name}: is the session's", param=name, code="unknown_field")
    limits = asked.get("limits")
    for name, value in limits.items() if isinstance(limits, dict) else ():
        if name not in RUN_LIMITS and value is not None:
            raise invalid(f"limits.{name}: is the session's", param=f"limits.{name}", code="unknown_field")
    if asked.get("language") is None:
        asked["language"] = session.language
    return run_and_answer(parse_run(asked), caller, body, session_id=session.id)


def opened(session_id: str) -> Caller:
    """Return the caller of a call inside a session, which must live. Raises ApiError 401, 404, 410 or 429."""
    try:
        caller = require_caller(reading=True)
        context().sessions.live(caller.id, session_id)
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    return caller

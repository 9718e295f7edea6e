"""`/v1/sessions`: create a session, look at sessions, run programs in one, end one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from api.context import context, next_url, require_caller
from api.errors import FAILURES, JSON, ApiError, invalid, of_failure
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, parse_object, read_json_body
from api.http.concurrency import nothing
from api.http.json_response import document_response, json_response
from api.http.media import NDJSON, SSE, media_type
from api.http.pagination import list_body, parse_list
from api.openapi import examples
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY, LISTED, PACKAGE_ERRORS
from api.openapi.models import Run as RunAnswer
from api.openapi.parameters import EVENTS, IDEMPOTENCY, METADATA, PAGING
from api.runs.rendering import events_response, run_and_answer
from api.runs.submission import parse_idempotency_key
from api.sessions.answers import Session, SessionDeleted, SessionList
from api.sessions.requests import SessionIn, SessionRunIn, parse_session
from api.sessions.run_limits import checked_context, parse_session_run
from api.sessions.worker_calls import not_refused, reached
from records.sessions import SessionFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.keys.authentication import Caller
    from api.sessions.requests import SessionRequest
    from records.sessions import StoredSession

blueprint = Blueprint("sessions", __name__)

#: The states to list sessions by; `live` is any but the last.
STATUSES = ["live", "creating", "ready", "busy", "frozen", "paused", "ended"]
PATH = {"session_id": "The session's id."}
#: The errors of a call inside a session, beside its own.
INSIDE = (
    "session_not_found", "session_ended", "session_busy", "session_paused", "worker_unavailable", "overloaded",
)  # fmt: skip


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
        200: Answer(
            "The live session of that name; with `stream` the events of the creation, closed by `result`.",
            {JSON: Session, **EVENTS},
        ),
        201: Json("The session was created.", Session),
        202: Json("The session is being created in the background.", Session),
    },
    errors=(
        *JSON_BODY, "too_long", "invalid_path", "duplicate_path", "invalid_base64", "unknown_language",
        "limit_below_minimum", "limit_exceeds_maximum", "not_supported", "session_differs", "overloaded",
        "too_many_sessions", "too_many_runs", *PACKAGE_ERRORS, "network_not_allowed",
        "language_not_ready", "worker_unavailable", "engine_error",
        "storage_low", "disk_full",
        "quota_exceeded", "external_id_in_use", "not_acceptable", "session_paused", "session_ended",
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
        if asked.stream:
            response = _streamed(asked, caller, release)
            release = nothing
            return response
        service = context().sessions
        made, is_new = (service.create_later if asked.background else service.create)(asked, caller)
    finally:
        release()
    return json_response(made, (202 if asked.background else 201) if is_new else 200)


def _streamed(asked: SessionRequest, caller: Caller, release: Callable[[], None]) -> Response:
    """Return the events of a session that is being created: each state, and at last the session or the error."""
    media = media_type(request.accept_mimetypes)
    return events_response(_events(context().sessions.create_told(asked, caller)), media, release)


def _events(told: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    began = time.monotonic()
    seq, event = 0, "info"

    def message(event: str, data: object) -> dict[str, Any]:
        return {"seq": seq, "event": event, "data": data, "t_ms": round((time.monotonic() - began) * 1000)}

    try:
        for made in told:
            seq += 1
            event = "info" if made["status"] == "creating" else "result"
            if event == "result" or "output" in made:
                yield message(event, made)
            else:
                yield message(event, {"status": "creating", "session": made})
    except (ApiError, *FAILURES) as e:
        seq += 1
        error = e if isinstance(e, ApiError) else of_failure(e)
        yield message("error", error.error.to_json())


@blueprint.get("/v1/sessions")
@operation(
    "List your sessions",
    tag="sessions",
    query=(
        *PAGING,
        Query(
            "status", "Only sessions in this state; `live`: any but `ended`.", {"type": "string", "enum": STATUSES}
        ),
        Query("name", "Only sessions of this name.", {"type": "string"}),
        Query("external_id", "Only the session of this external id.", {"type": "string"}),
        METADATA,
    ),
    answers={200: Json("The newest first, unless `order=asc`.", SessionList)},
    errors=(*LISTED, "worker_unavailable"),
)
def list_sessions() -> Response:
    """List the caller's sessions, page by page: the newest first unless `order=asc`."""
    caller = require_caller(reading=True)
    asked = parse_list(request.args, filters=("status", "name", "external_id"), by_metadata=True)
    status = asked.filters.get("status")
    if status is not None and status not in STATUSES:
        raise invalid(f"status: must be one of {', '.join(STATUSES)}", param="status")
    told = None if status in (None, "live", "ended") else context().sessions.told()
    wanted = SessionFilter(
        live=None if status is None else status != "ended",
        name=asked.filters.get("name"),
        external_id=asked.filters.get("external_id"),
        metadata=asked.metadata,
        ids=None
        if told is None or status == "creating"
        else tuple(name for name, facts in told.items() if facts["status"] == status),
        other_than=tuple(told) if told is not None and status == "creating" else None,
    )
    page = context().records.sessions.list(
        caller.id, limit=asked.limit, after=asked.after, order=asked.order, wanted=wanted
    )
    rows = [(made["id"], made) for made in context().sessions.objects(page.items, told)]
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
        "As `POST /v1/runs`, in the session's /work, where files stay. Code is a cell of a context, which keeps "
        "its variables, in a language that has contexts; with `entrypoint` or `args`, and in all other languages, "
        "the run is a new process. `language` may be left out. Runs of one context are executed in order."
    ),
    path=PATH,
    query=(IDEMPOTENCY,),
    body=RequestBody({JSON: SessionRunIn}, {"code": {"code": "print(1+1)"}}),
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
        "file_not_found@400", "files_too_large",
        "external_id_in_use", "idempotency_key_in_use", "idempotency_key_used",
        "idempotency_mismatch", "worker_lost", "interrupted", "quota_exceeded", "too_many_runs",
        "too_many_connections", "storage_quota_exceeded", "file_damaged", "storage_unavailable", "storage_low",
        "disk_full", "file_not_permitted", "session_ended@500", "context_not_found", "too_many_contexts",
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
    if asked.get("language") is None:
        asked["language"] = language_of_run(session, caller, asked.get("context"))
    parsed = parse_session_run(asked, caller.plan, context().settings.session_timeout_max_ms)
    return run_and_answer(parsed, caller, body, session_id=session.id)


def language_of_run(session: StoredSession, caller: Caller, name: object) -> str:
    """Return the language of a run that names none: its context's, or else the session's. Raises ApiError."""
    if name is None:
        return session.language
    key = checked_context(name)
    found = reached(lambda: context().session_worker.ask("context", session.id, caller.id, "context", context=key))
    return str(not_refused(found, session.id, caller)["language"])


def opened(session_id: str) -> Caller:
    """Return the caller of a call inside a session, which must live. Raises ApiError 401, 404, 410 or 429."""
    try:
        caller = require_caller(reading=True)
        context().sessions.live(caller.id, session_id)
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    return caller

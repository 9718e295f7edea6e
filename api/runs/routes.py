"""`/v1/runs`: run a program, look at runs, follow one, end it, forget it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context, require_caller
from api.errors import JSON, ApiError, invalid
from api.http.access_log import audit
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, parse_object, read_json_body
from api.http.ids import is_run_id
from api.http.json_response import json_response
from api.http.media import NDJSON, SSE, media_type
from api.http.pagination import STATUSES, parse_include, parse_list, parse_status
from api.openapi import examples
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY, LISTED, PACKAGE_ERRORS
from api.openapi.models import Run as RunAnswer
from api.openapi.models import RunDeleted, RunList
from api.openapi.parameters import EVENTS, IDEMPOTENCY, METADATA, PAGING
from api.runs.events import MAX_SEQ, parse_after
from api.runs.rendering import (
    client_fd,
    events_response,
    list_response,
    recorded_response,
    run_and_answer,
    run_response,
    signer,
)
from api.runs.requests import RunIn, parse_run
from api.runs.stored_outputs import is_in_parts
from dispatch.source import MessageSource
from records.runs import Run, RunBlob, RunFilter

if TYPE_CHECKING:
    from api.keys.authentication import Caller

blueprint = Blueprint("runs", __name__)

_PATH = {"run_id": "The run's id."}


@blueprint.post("/v1/runs")
@operation(
    "Run a program",
    tag="runs",
    description=(
        "Responds when the run has ended, with its events as they happen (`stream`), or at once (`background`). "
        "If the client disconnects, the run is cancelled, unless it runs in the background."
    ),
    query=(IDEMPOTENCY,),
    body=RequestBody({JSON: RunIn}, examples.RUN_REQUESTS),
    answers={
        200: Answer(
            "The ended run, also if its program failed; with `stream` its events.",
            {JSON: RunAnswer, **EVENTS},
            {"ended": examples.RUN, NDJSON: examples.NDJSON, SSE: examples.SSE},
        ),
        202: Json("The run was accepted and runs in the background.", RunAnswer, {"queued": examples.QUEUED}),
    },
    errors=(
        *JSON_BODY, "too_long", "too_many", "invalid_path", "duplicate_path", "invalid_base64", "unknown_language",
        "limit_below_minimum", "limit_exceeds_maximum", "not_supported", "not_acceptable", "file_not_found@400",
        "files_too_large", "external_id_in_use", "idempotency_key_in_use", "idempotency_key_used",
        "idempotency_mismatch", "worker_lost", "interrupted", "quota_exceeded", "too_many_runs",
        "too_many_connections", "storage_quota_exceeded", "file_damaged", "overloaded", "language_not_ready",
        "worker_unavailable", "storage_unavailable", "storage_low",
        "network_not_allowed",
        *PACKAGE_ERRORS,
    ),
)  # fmt: skip
def create_run() -> Response:
    """Run a program: answer with the run when it has ended, with its events as they happen, or at once.

    200 the run or its events; 202 a run in the background; 400 the request is invalid; 401; 413; 415;
    429; 500 the service failed the run; 503 no worker, no place, or the language is not built yet. A client that
    goes away cancels its run, unless that is in the background.
    """
    try:
        caller = require_caller(reading=False)
        context().room.require()
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    body = read_json_body(request)
    return run_and_answer(parse_run(parse_object(body)), caller, body)


@blueprint.get("/v1/runs")
@operation(
    "List your runs",
    tag="runs",
    query=(
        *PAGING,
        METADATA,
        Query("session_id", "Only runs in this session.", {"type": "string"}),
        Query("external_id", "Only the run of this external id.", {"type": "string"}),
        Query("function", "Only builds and calls of this function.", {"type": "string"}),
        Query("status", "Only runs of this status.", {"type": "string", "enum": list(STATUSES)}),
        Query("language", "Only runs of this language, by id or alias.", {"type": "string"}),
    ),
    answers={200: Json("The newest first, unless `order=asc`.", RunList, {"one": examples.page(examples.RUN)})},
    errors=(
        *LISTED,
        "too_many",
        "unknown_language",
        "worker_unavailable",
        "overloaded",
        "too_many_connections",
        "storage_unavailable",
    ),
)
def list_runs() -> Response:
    """List the caller's runs, page by page: the newest first unless `order=asc`."""
    caller = require_caller(reading=True)
    asked = parse_list(
        request.args, filters=("status", "language", "session_id", "external_id", "function"), by_metadata=True
    )
    language = asked.filters.get("language")
    if language is not None:
        language = context().languages.name_of(language)
    wanted = RunFilter(
        owner=caller.id,
        status=parse_status(asked.filters.get("status")),
        language=language,
        metadata=asked.metadata,
        session_id=asked.filters.get("session_id"),
        external_id=asked.filters.get("external_id"),
        function=asked.filters.get("function"),
    )
    page = context().records.runs.search(wanted, limit=asked.limit, after=asked.after, order=asked.order)
    return list_response(page, caller.id)


@blueprint.get("/v1/runs/<run_id>")
@operation(
    "Get a run",
    tag="runs",
    path=_PATH,
    query=(
        Query(
            "include",
            "`request` includes the request that created the run.",
            {"type": "string", "enum": ["request"]},
        ),
    ),
    answers={200: Json("The run.", RunAnswer, {"ended": examples.RUN, "queued": examples.QUEUED})},
    errors=(
        "run_not_found",
        "invalid_value",
        "unknown_field",
        "overloaded",
        "too_many_connections",
        "storage_unavailable",
    ),
)
def get_run(run_id: str) -> Response:
    """Return one of the caller's runs, in any state; with `include=request` also the request.

    404 for one that is unknown, forgotten or another's.
    """
    caller = require_caller(reading=True)
    include = parse_include(request.args)
    run = _run(run_id, caller)
    return recorded_response(run, request=_request_of(run) if include else None)


@blueprint.delete("/v1/runs/<run_id>")
@operation(
    "Delete an ended run",
    tag="runs",
    description="Deletes its request, events and artifacts as well.",
    path=_PATH,
    answers={200: Json("Deleted.", RunDeleted)},
    errors=("run_not_found", "run_not_ended"),
)
def delete_run(run_id: str) -> Response:
    """Forget an ended run, its events and artifacts. 409 while it lives."""
    caller = require_caller(reading=False)
    outcome = context().records.runs.delete(caller.id, run_id) if is_run_id(run_id) else "unknown"
    if outcome == "live":
        raise ApiError(409, "The run has not ended: cancel it first.", code="run_not_ended", param="id")
    if outcome == "unknown":
        raise _no_such_run()
    audit("run.deleted", key=caller.id)
    return json_response({"id": run_id, "object": "run", "deleted": True})


@blueprint.post("/v1/runs/<run_id>/cancel")
@operation(
    "Cancel a run",
    tag="runs",
    description=(
        "All processes of the run have exited before the response is sent. A run that has ended is returned "
        "unchanged."
    ),
    path=_PATH,
    answers={200: Json("The ended run.", RunAnswer)},
    errors=("run_not_found", "worker_unavailable", "overloaded", "too_many_connections", "storage_unavailable"),
)
def cancel_run(run_id: str) -> Response:
    """End a run early and answer with it; one that has ended is answered as it is."""
    caller = require_caller(reading=False)
    drain(request, DRAIN_UNAUTHENTICATED_S)
    run = _run(run_id, caller)
    if not run.ended:
        audit("run.cancelled", key=caller.id)
    run = context().runs.cancel(run)
    return recorded_response(run) if is_in_parts(run.document) else run_response(run)


@blueprint.get("/v1/runs/<run_id>/events")
@operation(
    "Stream a run's events, live or replayed",
    tag="runs",
    path=_PATH,
    query=(
        Query(
            "after",
            "Only events with a greater sequence number.",
            {"type": "integer", "minimum": 0, "maximum": MAX_SEQ},
        ),
        Query(
            "Last-Event-ID",
            "As `after`, for server-sent events; takes precedence over it.",
            {"type": "integer", "minimum": 0, "maximum": MAX_SEQ},
            where="header",
        ),
    ),
    answers={200: Answer("The events until the run's end.", EVENTS, {NDJSON: examples.NDJSON, SSE: examples.SSE})},
    errors=(
        "run_not_found",
        "invalid_value",
        "unknown_field",
        "not_acceptable",
        "overloaded",
        "too_many_connections",
    ),
)
def get_events(run_id: str) -> Response:
    """Stream the events of a run, live or replayed: those after `after`, or after `Last-Event-ID` for SSE."""
    caller = require_caller(reading=True)
    media = media_type(request.accept_mimetypes)
    if set(request.args) - {"after"}:
        raise invalid("after: is the only parameter here", param=None, code="unknown_field")
    if len(request.args.getlist("after")) > 1:
        raise invalid("after: is given twice", param="after")
    after = parse_after(request.args.get("after"), "after")
    last = parse_after(request.headers.get("Last-Event-ID"), "Last-Event-ID")
    if media == SSE and "Last-Event-ID" in request.headers:
        after = last
    run = _run(run_id, caller)
    release = context().places.followers.acquire(caller.id)
    source = MessageSource()
    try:
        run = context().outputs.whole(run)
        messages = context().follower.follow(run, after, signer(), client_fd=client_fd(), source=source)
        return events_response(messages, media, release, source)
    except BaseException:
        release()
        raise


def _run(run_id: str, caller: Caller) -> Run:
    run = context().records.runs.get(caller.id, run_id) if is_run_id(run_id) else None
    if run is None:
        raise _no_such_run()
    return run


def _no_such_run() -> ApiError:
    return ApiError(404, "There is no such run.", code="run_not_found", param="id")


def _request_of(run: Run) -> bytes | RunBlob:
    """Return the request of a run, or the blob that holds it."""
    store = context().records.runs
    return store.request(run.owner, run.id) or store.request_blob(run.owner, run.id) or b"null"

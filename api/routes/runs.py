"""`/v1/runs`: run a program, look at a run, follow it, end it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.body import DRAIN_STRANGER_S, drain, read_json_object
from api.context import context, require_caller
from api.errors import JSON, ApiError, invalid
from api.events import NDJSON, SSE, media_type, parse_after, rendered
from api.ids import is_run_id
from api.schemas import parse_run
from dispatch import ClientGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.auth import Caller
    from api.events import Message
    from records.store import RunRecord

blueprint = Blueprint("runs", __name__)

#: Nobody reads it: the status says in a log what became of the request (a custom of other servers).
CLIENT_GONE = 499
#: A smaller answer fits into the socket's buffer: however slowly it is read, no thread waits for that.
LARGE_ANSWER_BYTES = 64 * 1024


@blueprint.post("/v1/runs")
def create_run() -> Response:
    """Run a program: answer with the run when it has ended, with its events as they happen, or at once.

    200 the run or its events; 202 a run in the background; 400 what is wrong with the request; 401; 413; 415;
    429; 500 the service failed the run; 503 no worker, no place, or the language is not built yet. A client that
    goes away cancels its run, unless that is in the background.
    """
    try:
        caller = require_caller(reading=False)
        if "Idempotency-Key" in request.headers:
            raise invalid("Idempotency-Key: is not supported yet", param="Idempotency-Key", code="not_supported")
    except ApiError:
        drain(request, DRAIN_STRANGER_S)
        raise
    wanted = parse_run(read_json_object(request))
    runs = context().runs
    if wanted.background:
        return Response(runs.submit(wanted, caller).document, 202, content_type=JSON)
    media = media_type(request.accept_mimetypes) if wanted.stream else JSON
    give_back = context().waiters.take()
    try:
        if wanted.stream:
            messages = runs.stream(wanted, caller, client_fd=_client_fd())
            return _events(messages, media, give_back)
        return _document(runs.run(wanted, caller, client_fd=_client_fd()), give_back)
    except ClientGone:
        give_back()
        return Response(status=CLIENT_GONE)
    except BaseException:
        give_back()
        raise


@blueprint.get("/v1/runs/<run_id>")
def get_run(run_id: str) -> Response:
    """One run of the caller's, in any state. 404 for one that is unknown, forgotten or another's."""
    record = _record(run_id, require_caller(reading=True))
    return _document(record, context().readers.take() if _is_large(record) else None)


@blueprint.post("/v1/runs/<run_id>/cancel")
def cancel_run(run_id: str) -> Response:
    """End a run early and answer with it; one that has ended is answered as it is."""
    caller = require_caller(reading=False)
    drain(request, DRAIN_STRANGER_S)
    return _document(context().runs.cancel(_record(run_id, caller)))


@blueprint.get("/v1/runs/<run_id>/events")
def get_events(run_id: str) -> Response:
    """The events of a run, live or again: those after `after`, or after `Last-Event-ID` for SSE."""
    caller = require_caller(reading=True)
    media = media_type(request.accept_mimetypes)
    if set(request.args) - {"after"}:
        raise invalid("after: is the only parameter here", param=None, code="unknown_field")
    if len(request.args.getlist("after")) > 1:
        raise invalid("after: is given twice", param="after")
    after = parse_after(request.args.get("after"), "after")
    if media == SSE and "Last-Event-ID" in request.headers:
        after = parse_after(request.headers["Last-Event-ID"], "Last-Event-ID")
    record = _record(run_id, caller)
    messages = context().follower.follow(record, after, client_fd=_client_fd())
    return _events(messages, media, context().readers.take())


def _record(run_id: str, caller: Caller) -> RunRecord:
    record = context().runs.get(run_id, caller) if is_run_id(run_id) else None
    if record is None:
        raise ApiError(404, "There is no such run.", code="run_not_found", param="id")
    return record


def _is_large(record: RunRecord) -> bool:
    return len(record.document) > LARGE_ANSWER_BYTES


def _document(record: RunRecord, give_back: Callable[[], None] | None = None) -> Response:
    """The run; a place that was taken is given back once nobody can be kept waiting by it."""
    response = Response(record.document, content_type=JSON)
    if give_back is not None:
        if _is_large(record):
            response.call_on_close(give_back)
        else:
            give_back()
    return response


def _events(messages: Iterator[Message], media: str, give_back: Callable[[], None]) -> Response:
    """A stream of events that gives its place back when it ends, by whichever side."""

    def body() -> Iterator[bytes]:
        try:
            yield from rendered(messages, media)
        except ClientGone:
            return

    content_type = f"{SSE}; charset=utf-8" if media == SSE else NDJSON
    response = Response(body(), content_type=content_type)
    response.headers["X-Accel-Buffering"] = "no"  # a proxy in front must not collect what is to be seen at once
    response.call_on_close(give_back)
    return response


def _client_fd() -> int | None:
    """The socket of the waiting client, where the server in front says which it is."""
    sock = request.environ.get("gunicorn.socket")
    return None if sock is None else int(sock.fileno())

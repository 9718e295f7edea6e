"""`/v1/runs/{id}/stdin` and `…/signal`: bring a live run that was started with `stdin_open` input and signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from api.context import context, require_caller
from api.errors import JSON, ApiError, invalid
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, parse_object, read_json_body
from api.http.body_pieces import body_pieces
from api.http.ids import is_run_id
from api.http.signals import SIGNAL_BODY, signal_number
from api.openapi.decorator import Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.openapi.models import Run as RunAnswer
from api.runs.rendering import recorded_response
from api.system.languages import worker_unavailable
from dispatch import WorkerLost, WorkerUnavailable
from protocol.result import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from records.runs import Run

blueprint = Blueprint("run_input", __name__)

_PATH = {"run_id": "The run's id."}
_CLOSE = Query("close", "`1` ends the input behind it.", {"type": "string", "enum": ["0", "1"]})


@blueprint.post("/v1/runs/<run_id>/stdin")
@operation(
    "Write to a run",
    tag="runs",
    description="The body is what a run that was started with `stdin_open` reads from its standard input.",
    path=_PATH,
    query=(_CLOSE,),
    body=RequestBody({"application/octet-stream": {"type": "string", "format": "binary"}}, required=False),
    answers={200: Json("The run has it.", RunAnswer)},
    errors=(
        "run_not_found", "stdin_closed", "invalid_value", "incomplete_body", "too_many_connections",
        "worker_unavailable",
    ),
)  # fmt: skip
def write_to_run(run_id: str) -> Response:
    """Write the body to the standard input of a run, as it arrives."""
    run = _opened(run_id)
    close = request.args.get("close", "0")
    if close not in ("0", "1"):
        raise invalid("close: must be 0 or 1", param="close")
    release = context().places.uploads.acquire(run.owner)
    try:
        _ask(lambda: context().session_worker.write_run_input(run.id, body_pieces(), close=close == "1"))
    finally:
        release()
    return recorded_response(run)


@blueprint.post("/v1/runs/<run_id>/signal")
@operation(
    "Signal a run",
    tag="runs",
    description="Its main process gets the signal, if the run was started with `stdin_open`.",
    path=_PATH,
    body=RequestBody({JSON: SIGNAL_BODY}, {"interrupt": {"signal": "SIGINT"}}),
    answers={200: Json("The signal was sent.", RunAnswer)},
    errors=(*JSON_BODY, "run_not_found", "stdin_closed", "worker_unavailable"),
)
def signal_run(run_id: str) -> Response:
    """Send a signal to the main process of a run."""
    run = _opened(run_id)
    number = signal_number(parse_object(read_json_body(request)))
    _ask(lambda: context().session_worker.signal_run(run.id, number))
    return recorded_response(run)


def _opened(run_id: str) -> Run:
    """Return a run of the caller. Raises ApiError 401, 404 or 429."""
    try:
        caller = require_caller(reading=True)
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    run = context().records.runs.get(caller.id, run_id) if is_run_id(run_id) else None
    if run is None:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise ApiError(404, "There is no such run.", code="run_not_found", param="id")
    return run


def _ask(call: Callable[[], Any]) -> None:
    try:
        found = call()
    except (WorkerUnavailable, WorkerLost) as e:
        raise worker_unavailable() from e
    if isinstance(found, Refusal):
        raise ApiError.from_refusal(found)
    if not found:
        message = "The run takes no input: it was started without stdin_open, or has ended."
        raise ApiError(409, message, code="stdin_closed", param="id")

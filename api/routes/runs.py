"""`/v1/runs`: run a program, look at a run."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api.body import DRAIN_STRANGER_S, drain, read_json_object
from api.context import context, require_caller
from api.errors import JSON, ApiError, invalid
from api.ids import is_run_id
from api.schemas import parse_run
from dispatch import ClientGone

blueprint = Blueprint("runs", __name__)

#: Nobody reads it: the status says in a log what became of the request (a custom of other servers).
CLIENT_GONE = 499


@blueprint.post("/v1/runs")
def create_run() -> Response:
    """Run a program and answer with the run when it has ended.

    200 the run; 400 what is wrong with the request; 401; 413; 415; 429; 500 the service failed the run;
    503 no worker, no place, or the language is not built yet. A client that goes away cancels its run.
    """
    try:
        caller = require_caller(reading=False)
        if "Idempotency-Key" in request.headers:
            raise invalid("Idempotency-Key: is not supported yet", param="Idempotency-Key", code="not_supported")
    except ApiError:
        drain(request, DRAIN_STRANGER_S)
        raise
    wanted = parse_run(read_json_object(request))
    try:
        record = context().runs.run(wanted, caller, client_fd=_client_fd())
    except ClientGone:
        return Response(status=CLIENT_GONE)
    return Response(record.document, content_type=JSON)


@blueprint.get("/v1/runs/<run_id>")
def get_run(run_id: str) -> Response:
    """One run of the caller's, in any state. 404 for one that is unknown, forgotten or another's."""
    caller = require_caller(reading=True)
    record = context().runs.get(run_id, caller) if is_run_id(run_id) else None
    if record is None:
        raise ApiError(404, "There is no such run.", code="run_not_found", param="id")
    return Response(record.document, content_type=JSON)


def _client_fd() -> int | None:
    """The socket of the waiting client, where the server in front says which it is."""
    sock = request.environ.get("gunicorn.socket")
    return None if sock is None else int(sock.fileno())

"""`/v1/sessions/{id}/processes/{p}`: resize its terminal, get a ticket, attach to it by a WebSocket."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context, limit_anonymous
from api.errors import JSON
from api.http.body import parse_object, read_json_body
from api.http.json_response import json_response
from api.http.query import parse_int
from api.http.takeover import take_over
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.sessions.answers import Process, Ticket
from api.sessions.attach import MOST_BYTES, MOST_TEXT, AttachedClient
from api.sessions.bodies import parse_query
from api.sessions.process_requests import TerminalIn, parse_size
from api.sessions.process_routes import AFTER, MAX_SEQ, PROCESS_PATH, ask, check_name
from api.sessions.routes import INSIDE, opened
from api.sessions.worker_calls import reached
from api.websockets import upgrade
from api.websockets.wire import Wire
from config.clock import rfc3339
from protocol.result import Refusal

if TYPE_CHECKING:
    from dispatch.sessions import ProcessConnection

blueprint = Blueprint("session_attach", __name__)

#: A ticket is shorter.
MAX_TICKET = 100
_ATTACH = "/v1/sessions/<session_id>/processes/<process>/attach"
_UPGRADE = (
    "Upgrades to a WebSocket. Binary messages are the bytes of the process: from the client its input, to the "
    "client its output; of a process without a terminal the first byte tells the stream, 1 stdout, 2 stderr. Text "
    'messages are JSON. The client may send `{"type":"resize","cols","rows"}`, `{"type":"signal","signal"}` and '
    '`{"type":"close_stdin"}`. It gets `{"type":"ready","pid"}`, `{"type":"exit","exit_code","signal"}`, where '
    'output is no longer kept `{"type":"info","dropped_bytes"}`, and for a message that cannot be understood '
    '`{"type":"error","message"}`. Close codes: 1000 the process has ended, 1001 the session has, 1009 a message '
    "was too large, 1012 the service restarts. The page of another origin is refused."
)


@blueprint.post("/v1/sessions/<session_id>/processes/<process>/resize")
@operation(
    "Resize the terminal of a process",
    tag="sessions",
    path=PROCESS_PATH,
    body=RequestBody({JSON: TerminalIn}, {"wide": {"cols": 132, "rows": 43}}),
    answers={200: Json("Its programs are told by SIGWINCH.", Process)},
    errors=(*JSON_BODY, *INSIDE, "process_not_found", "not_a_terminal"),
)
def resize_process(session_id: str, process: str) -> Response:
    """Set the size of the terminal of a process."""
    check_name(process)
    caller = opened(session_id)
    size = parse_size(parse_object(read_json_body(request)))
    return json_response(ask(session_id, caller, "resize", p=process, **size._asdict()))


@blueprint.post(_ATTACH)
@operation(
    "Get a ticket to attach to a process",
    tag="sessions",
    description="It is good once, for 30 s, in the `ticket` of a WebSocket's URL, where no header can be sent.",
    path=PROCESS_PATH,
    answers={200: Json("The ticket.", Ticket)},
    errors=(*INSIDE, "process_not_found"),
)
def create_ticket(session_id: str, process: str) -> Response:
    """Issue a ticket to attach to a process."""
    check_name(process)
    caller = opened(session_id)
    made = ask(session_id, caller, "ticket", answer="ticket", p=process)
    expires_at = rfc3339(round((time.time() + made["expires_in_s"]) * 1000))
    return json_response({"ticket": made["ticket"], "expires_at": expires_at})


@blueprint.get(_ATTACH)
@blueprint.get(_ATTACH, endpoint="attach_websocket", websocket=True)  # to werkzeug a request of another kind
@operation(
    "Attach to a process",
    tag="sessions",
    description=_UPGRADE,
    auth=("key", "none"),
    path=PROCESS_PATH,
    query=(
        Query("ticket", "In place of a token.", {"type": "string", "minLength": 1, "maxLength": MAX_TICKET}),
        AFTER,
    ),
    answers={101: Answer("The connection is a WebSocket.")},
    errors=(
        *INSIDE, "process_not_found", "invalid_value", "unknown_field", "upgrade_required", "foreign_origin",
        "ticket_invalid", "too_many_connections",
    ),
)  # fmt: skip
def attach_to_process(session_id: str, process: str) -> Response:
    """Turn the connection into a WebSocket to a process, which one thread serves with all others."""
    check_name(process)
    query = parse_query(request.args, "ticket", "after")
    given = query.get("after")
    after = given if given == "now" else parse_int(given, "after", 0, MAX_SEQ, 0)
    upgrade.check(request)
    attached = _attached(session_id, process, after, query.get("ticket"))
    with ExitStack() as held:
        held.callback(attached.sock.close)
        release = context().places.attached.acquire(attached.key)
        held.callback(release)
        wire = Wire(most_text=MOST_TEXT, most_bytes=MOST_BYTES)
        wire.outgoing += upgrade.accept(request)
        talk = AttachedClient(has_terminal=attached.has_terminal, release=release)
        client, pending = take_over(request)
        held.pop_all()
    context().websockets.add(client, pending, attached.sock, wire, talk)
    return Response(status=101)


def _attached(session_id: str, process: str, after: int | str, ticket: str | None) -> ProcessConnection:
    """Return a connection to the process. Raises ApiError."""
    worker = context().session_worker
    if ticket is None:
        owner = opened(session_id).id
        found = reached(lambda: worker.attach(session_id, process, after, key=owner))
    else:
        limit_anonymous()
        owner = ""
        found = reached(lambda: worker.attach(session_id, process, after, ticket=ticket[: MAX_TICKET + 1]))
    if isinstance(found, Refusal):
        raise context().sessions.refused(owner, session_id, found)
    attached: ProcessConnection = found
    return attached

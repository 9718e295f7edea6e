"""`/v1/sessions/{id}/processes`: start programs in a session, look at them, write to them, signal and kill them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from api.context import context
from api.errors import JSON, ApiError
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, parse_object, read_json_body
from api.http.body_pieces import body_pieces
from api.http.json_response import json_response
from api.http.long_answers import answer_when_ready, stream_response
from api.http.media import NDJSON
from api.http.query import parse_int
from api.http.signals import SIGNAL_BODY, signal_number
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.runs.rendering import client_fd
from api.sessions.answers import PROCESS_EVENT, Process, ProcessList
from api.sessions.bodies import parse_flag, parse_query
from api.sessions.process_output import (
    ENCODING_SCHEMA,
    Encoding,
    event_lines,
    parse_encoding,
    with_output,
)
from api.sessions.process_requests import ProcessIn, parse_process
from api.sessions.routes import INSIDE, PATH, opened
from api.sessions.worker_calls import not_refused, reached
from dispatch.source import MessageSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.keys.authentication import Caller
    from api.sessions.process_requests import ProcessRequest

blueprint = Blueprint("session_processes", __name__)

MAX_SEQ = 2**53
AFTER = Query(
    "after",
    "Only output with a greater number; `now` begins at the end.",
    {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_SEQ}, {"const": "now"}]},
)
_ENCODING = Query("encoding", "`base64` for the raw bytes.", ENCODING_SCHEMA)
PROCESS_PATH = PATH | {"process": "The process: its id, its pid, or `tag:` and its tag."}
MAX_WAIT_S = 3600
#: Of the name of a process in a path.
MAX_NAME = 100


@blueprint.post("/v1/sessions/<session_id>/processes")
@operation(
    "Start a process in a session",
    tag="sessions",
    description=(
        "It outlives the client, unless `on_disconnect` says otherwise, and what is alive of it ends with the "
        "session. With `pty` it has a terminal, whose output is stdout and whose input stays open."
    ),
    path=PATH,
    body=RequestBody({JSON: ProcessIn}, {"command": {"command": "ls -la", "wait": True}}),
    answers={
        200: Answer(
            "With `wait`: the process has ended. With `stream` its events: `info` with the process, its output, "
            "and at last `result`.",
            {JSON: Process, NDJSON: PROCESS_EVENT},
        ),
        201: Json("The process was started.", Process),
    },
    errors=(*JSON_BODY, *INSIDE, "too_long", "too_many_connections"),
)
def create_process(session_id: str) -> Response:
    """Start a process; with `wait` answer when it has ended, with its output, with `stream` as it goes."""
    caller = opened(session_id)
    asked = parse_process(parse_object(read_json_body(request)))
    places = context().places
    release = (places.followers if asked.stream or asked.wait else places.waiters).acquire(caller.id)
    try:
        process = _started(session_id, caller, asked)
        if asked.stream:
            response = _stream(
                session_id, caller, process["id"], 0, asked.encoding, kill=asked.kill_if_gone, announce=True
            )
            response.call_on_close(release)
        elif asked.wait:
            response = _when_seen(session_id, caller, _end_of(asked, process["id"]), asked.encoding, release)
        else:
            response = json_response(process, 201)
            release()
    except BaseException:
        release()
        raise
    return response


def run_to_end(session_id: str, caller: Caller, asked: ProcessRequest) -> dict[str, Any]:
    """Start a process and return it when it has ended, with its output. Raises ApiError."""
    release = context().places.waiters.acquire(caller.id)
    try:
        fields = _end_of(asked, _started(session_id, caller, asked)["id"])
        found = ask(session_id, caller, "process", client_fd=client_fd(), **fields)
        return with_output(found, asked.encoding)
    finally:
        release()


@blueprint.get("/v1/sessions/<session_id>/processes")
@operation(
    "List the processes of a session",
    tag="sessions",
    description="Those that are alive, and the last 64 that have ended.",
    path=PATH,
    answers={200: Json("In the order in which they were started.", ProcessList)},
    errors=INSIDE,
)
def list_processes(session_id: str) -> Response:
    """List the processes of a session."""
    caller = opened(session_id)
    found = ask(session_id, caller, "processes", answer="processes")
    return json_response({"object": "list", "data": found})


@blueprint.get("/v1/sessions/<session_id>/processes/<process>")
@operation(
    "Get a process",
    tag="sessions",
    path=PROCESS_PATH,
    query=(
        Query("wait_s", "Wait so long for its end.", {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S}),
        _ENCODING,
    ),
    answers={200: Json("The process; once it has ended, with what is kept of its output.", Process)},
    errors=(*INSIDE, "process_not_found", "invalid_value", "too_many_connections"),
)
def get_process(session_id: str, process: str) -> Response:
    """Return a process, after waiting for its end if that is asked for."""
    check_name(process)
    query = parse_query(request.args, "wait_s", "encoding")
    wait_s = parse_int(query.get("wait_s"), "wait_s", 0, MAX_WAIT_S, 0)
    encoding = parse_encoding(query)
    caller = opened(session_id)
    release = context().places.followers.acquire(caller.id)
    try:
        fields = {"p": process, "wait_s": wait_s, "output": True}
        return _when_seen(session_id, caller, fields, encoding, release)
    except BaseException:
        release()
        raise


@blueprint.get("/v1/sessions/<session_id>/processes/<process>/events")
@operation(
    "Stream the output of a process",
    tag="sessions",
    path=PROCESS_PATH,
    query=(
        AFTER,
        _ENCODING,
    ),
    answers={200: Answer("The output, live or replayed, until the process has ended.", {NDJSON: PROCESS_EVENT})},
    errors=(*INSIDE, "process_not_found", "invalid_value", "too_many_connections"),
)
def get_process_events(session_id: str, process: str) -> Response:
    """Stream the output of a process, and at its end the process."""
    check_name(process)
    query = parse_query(request.args, "after", "encoding")
    given = query.get("after")
    after = given if given == "now" else parse_int(given, "after", 0, MAX_SEQ, 0)
    encoding = parse_encoding(query)
    caller = opened(session_id)
    release = context().places.followers.acquire(caller.id)
    try:
        response = _stream(session_id, caller, process, after, encoding)
    except BaseException:
        release()
        raise
    response.call_on_close(release)
    return response


@blueprint.post("/v1/sessions/<session_id>/processes/<process>/stdin")
@operation(
    "Write to a process",
    tag="sessions",
    description="The body is what it reads from its standard input.",
    path=PROCESS_PATH,
    query=(Query("close", "`1` ends the input behind it.", {"type": "string", "enum": ["0", "1"]}),),
    body=RequestBody({"application/octet-stream": {"type": "string", "format": "binary"}}, required=False),
    answers={200: Json("The process has it.", Process)},
    errors=(*INSIDE, "process_not_found", "incomplete_body", "request_timeout", "too_many_connections"),
)
def write_to_process(session_id: str, process: str) -> Response:
    """Write the body to the standard input of a process, as it arrives."""
    check_name(process)
    close = parse_flag(parse_query(request.args, "close"), "close")
    caller = opened(session_id)
    release = context().places.uploads.acquire(caller.id)
    try:
        written = reached(
            lambda: context().session_worker.write_input(session_id, caller.id, process, body_pieces(), close=close)
        )
        return json_response(not_refused(written, session_id, caller))
    finally:
        release()


@blueprint.post("/v1/sessions/<session_id>/processes/<process>/signal")
@operation(
    "Signal a process",
    tag="sessions",
    path=PROCESS_PATH,
    body=RequestBody(
        {JSON: SIGNAL_BODY},
        {"interrupt": {"signal": "SIGINT"}},
    ),
    answers={200: Json("The signal was sent, if the process is alive.", Process)},
    errors=(*JSON_BODY, *INSIDE, "process_not_found"),
)
def signal_process(session_id: str, process: str) -> Response:
    """Send a signal to the main process."""
    check_name(process)
    caller = opened(session_id)
    asked = parse_object(read_json_body(request))
    number = signal_number(asked)
    return json_response(ask(session_id, caller, "signal", p=process, number=number))


@blueprint.delete("/v1/sessions/<session_id>/processes/<process>")
@operation(
    "Kill a process",
    tag="sessions",
    description="With everything that it has started.",
    path=PROCESS_PATH,
    answers={200: Json("The process.", Process)},
    errors=(*INSIDE, "process_not_found"),
)
def kill_process(session_id: str, process: str) -> Response:
    """Kill a process and everything that it has started."""
    check_name(process)
    caller = opened(session_id)
    return json_response(ask(session_id, caller, "kill", p=process))


def check_name(process: str) -> None:
    """Refuse a name that no process has. Raises ApiError 404."""
    if len(process) > MAX_NAME:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise ApiError(404, "There is no such process in this session.", code="process_not_found")


# -- the worker --------------------------------------------------------------------------------------


def _started(session_id: str, caller: Caller, asked: ProcessRequest) -> dict[str, Any]:
    spec = {
        "argv": asked.argv,
        "env": asked.env,
        "cwd": asked.cwd,
        "tag": asked.tag,
        "timeout_ms": asked.timeout_ms,
        "pty": asked.pty,
        "keep_awake": asked.keep_awake,
    }
    process: dict[str, Any] = ask(session_id, caller, "start", process=spec)
    if asked.stdin or not asked.stdin_open:
        name, close = process["id"], not asked.stdin_open
        written = reached(
            lambda: context().session_worker.write_input(session_id, caller.id, name, [asked.stdin], close=close)
        )
        not_refused(written, session_id, caller)
    return process


def _end_of(asked: ProcessRequest, process: str) -> dict[str, Any]:
    """Return the fields of a question for a process at its end, with its output."""
    wait_s = MAX_WAIT_S if asked.timeout_ms is None else asked.timeout_ms / 1000 + 10
    fields: dict[str, Any] = {"p": process, "wait_s": wait_s, "output": True}
    return fields | {"kill_if_gone": True} if asked.kill_if_gone else fields


def _when_seen(
    session_id: str, caller: Caller, fields: dict[str, Any], encoding: Encoding, release: Callable[[], None]
) -> Response:
    """Answer with a process when it has ended, or its time is over. Raises ApiError, ClientGone.

    `release` is for the place that is held meanwhile. It is called unless this call raises.
    """
    source = MessageSource()
    found = context().session_worker.asking(
        "process", session_id, caller.id, "process", client_fd=client_fd(), source=source, **fields
    )
    reached(lambda: next(found))

    def finish() -> Response:
        process = not_refused(reached(lambda: next(found)), session_id, caller)
        return json_response(with_output(process, encoding))

    def close() -> None:
        found.close()
        release()

    return answer_when_ready(source, finish, close)


def _stream(
    session_id: str,
    caller: Caller,
    process: str,
    after: int | str,
    encoding: Encoding,
    *,
    kill: bool = False,
    announce: bool = False,
) -> Response:
    """Answer with the events of a process as they happen. Raises ApiError, ClientGone."""
    source = MessageSource()
    messages = context().session_worker.events(
        session_id,
        caller.id,
        process,
        after,
        client_fd=client_fd(),
        kill_if_gone=kill,
        announce=announce,
        source=source,
    )
    first: dict[str, Any] = not_refused(reached(lambda: next(messages)), session_id, caller)
    return stream_response(event_lines(first, messages, encoding), source, NDJSON)


def ask(session_id: str, caller: Caller, do: str, *, answer: str = "process", **fields: Any) -> Any:  # noqa: ANN401
    """Ask the worker something of a session. Raises ApiError."""
    found = reached(lambda: context().session_worker.ask(do, session_id, caller.id, answer, **fields))
    return not_refused(found, session_id, caller)

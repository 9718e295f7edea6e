"""`/v1/sessions/{id}/processes`: start programs in a session, look at them, write to them, signal and kill them."""

from __future__ import annotations

import base64
import codecs
import signal
import time
from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request

from api.context import context
from api.errors import JSON, ApiError, invalid
from api.http.body import DRAIN_UNAUTHENTICATED_S, arrival, drain, parse_object, read_json_body
from api.http.json_response import json_response
from api.http.media import NDJSON
from api.http.query import parse_int
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.sessions.answers import PROCESS_EVENT, Process, ProcessList
from api.sessions.requests import ProcessIn, parse_flag, parse_process, parse_query
from api.sessions.routes import INSIDE, PATH, opened
from api.system.languages import worker_unavailable
from config.pieces import PIECE_BYTES
from dispatch import WorkerLost, WorkerUnavailable
from protocol.result import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.keys.authentication import Caller
    from api.sessions.requests import ProcessRequest

blueprint = Blueprint("session_processes", __name__)

_PATH = PATH | {"process": "The process: its id, its pid, or `tag:` and its tag."}
MAX_WAIT_S = 3600
#: As long as input may take to arrive.
STDIN_S = 600.0
MAX_SEQ = 2**53
#: Of the name of a process in a path.
MAX_NAME = 100
_SIGNAL = {
    "properties": {"signal": {"enum": sorted(found.name for found in signal.Signals)}},
    "additionalProperties": False,
}


@blueprint.post("/v1/sessions/<session_id>/processes")
@operation(
    "Start a process in a session",
    tag="sessions",
    description="It outlives the client, and what is alive of it ends with the session.",
    path=PATH,
    body=RequestBody({JSON: ProcessIn}, {"command": {"command": "ls -la", "wait": True}}),
    answers={
        200: Json("With `wait`: the process has ended.", Process),
        201: Json("The process was started.", Process),
    },
    errors=(*JSON_BODY, *INSIDE, "too_long", "too_many_connections"),
)
def create_process(session_id: str) -> Response:
    """Start a process; with `wait`, answer when it has ended, with its output."""
    caller = opened(session_id)
    asked = parse_process(parse_object(read_json_body(request)))
    release = context().places.waiters.acquire(caller.id)
    try:
        process = _started(session_id, caller, asked)
        if not asked.wait:
            return json_response(process, 201)
        wait_s = MAX_WAIT_S if asked.timeout_ms is None else asked.timeout_ms / 1000 + 10
        return json_response(
            _with_output(_ask(session_id, caller, "process", p=process["id"], wait_s=wait_s, output=True))
        )
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
    found = _ask(session_id, caller, "processes", answer="processes")
    return json_response({"object": "list", "data": found})


@blueprint.get("/v1/sessions/<session_id>/processes/<process>")
@operation(
    "Get a process",
    tag="sessions",
    path=_PATH,
    query=(Query("wait_s", "Wait so long for its end.", {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S}),),
    answers={200: Json("The process; once it has ended, with what is kept of its output.", Process)},
    errors=(*INSIDE, "process_not_found", "invalid_value", "too_many_connections"),
)
def get_process(session_id: str, process: str) -> Response:
    """Return a process, after waiting for its end if that is asked for."""
    _check_name(process)
    wait_s = parse_int(parse_query(request.args, "wait_s").get("wait_s"), "wait_s", 0, MAX_WAIT_S, 0)
    caller = opened(session_id)
    release = context().places.waiters.acquire(caller.id)
    try:
        return json_response(
            _with_output(_ask(session_id, caller, "process", p=process, wait_s=wait_s, output=True))
        )
    finally:
        release()


@blueprint.get("/v1/sessions/<session_id>/processes/<process>/events")
@operation(
    "Stream the output of a process",
    tag="sessions",
    path=_PATH,
    query=(
        Query(
            "after",
            "Only events with a greater number; `now` begins at the end.",
            {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_SEQ}, {"const": "now"}]},
        ),
        Query("encoding", "`base64` for the raw bytes.", {"type": "string", "enum": ["text", "base64"]}),
    ),
    answers={200: Answer("The output, live or replayed, until the process has ended.", {NDJSON: PROCESS_EVENT})},
    errors=(*INSIDE, "process_not_found", "invalid_value", "too_many_connections"),
)
def get_process_events(session_id: str, process: str) -> Response:
    """Stream the output of a process, and at its end the process."""
    _check_name(process)
    query = parse_query(request.args, "after", "encoding")
    given = query.get("after")
    after = given if given == "now" else parse_int(given, "after", 0, MAX_SEQ, 0)
    encoding = query.get("encoding", "text")
    if encoding not in ("text", "base64"):
        raise invalid("encoding: must be text or base64", param="encoding")
    caller = opened(session_id)
    release = context().places.readers.acquire(caller.id)
    try:
        messages = context().session_worker.events(session_id, caller.id, process, after)
        first = _first(messages, session_id, caller)
        response = Response(_lines(first, messages, raw=encoding == "base64"), content_type=NDJSON)
    except BaseException:
        release()
        raise
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(release)
    return response


@blueprint.post("/v1/sessions/<session_id>/processes/<process>/stdin")
@operation(
    "Write to a process",
    tag="sessions",
    description="The body is what it reads from its standard input.",
    path=_PATH,
    query=(Query("close", "`1` ends the input behind it.", {"type": "string", "enum": ["0", "1"]}),),
    body=RequestBody({"application/octet-stream": {"type": "string", "format": "binary"}}, required=False),
    answers={200: Json("The process has it.", Process)},
    errors=(*INSIDE, "process_not_found", "incomplete_body", "too_many_connections"),
)
def write_to_process(session_id: str, process: str) -> Response:
    """Write the body to the standard input of a process, as it arrives."""
    _check_name(process)
    close = parse_flag(parse_query(request.args, "close"), "close")
    caller = opened(session_id)
    release = context().places.uploads.acquire(caller.id)
    try:
        written = _reached(
            lambda: context().session_worker.write_input(session_id, caller.id, process, body_pieces(), close=close)
        )
        return json_response(_done(written, session_id, caller))
    finally:
        release()


@blueprint.post("/v1/sessions/<session_id>/processes/<process>/signal")
@operation(
    "Signal a process",
    tag="sessions",
    path=_PATH,
    body=RequestBody(
        {
            JSON: {
                "type": "object",
                "required": ["signal"],
                **_SIGNAL,
            }
        },
        {"interrupt": {"signal": "SIGINT"}},
    ),
    answers={200: Json("The signal was sent, if the process is alive.", Process)},
    errors=(*JSON_BODY, *INSIDE, "process_not_found"),
)
def signal_process(session_id: str, process: str) -> Response:
    """Send a signal to the main process."""
    _check_name(process)
    caller = opened(session_id)
    asked = parse_object(read_json_body(request))
    number = _signal_number(asked)
    return json_response(_ask(session_id, caller, "signal", p=process, number=number))


@blueprint.delete("/v1/sessions/<session_id>/processes/<process>")
@operation(
    "Kill a process",
    tag="sessions",
    description="With everything that it has started.",
    path=_PATH,
    answers={200: Json("The process.", Process)},
    errors=(*INSIDE, "process_not_found"),
)
def kill_process(session_id: str, process: str) -> Response:
    """Kill a process and everything that it has started."""
    _check_name(process)
    caller = opened(session_id)
    return json_response(_ask(session_id, caller, "kill", p=process))


def _check_name(process: str) -> None:
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
    }
    process: dict[str, Any] = _ask(session_id, caller, "start", process=spec)
    if asked.stdin or not asked.stdin_open:
        name, close = process["id"], not asked.stdin_open
        written = _reached(
            lambda: context().session_worker.write_input(session_id, caller.id, name, [asked.stdin], close=close)
        )
        _done(written, session_id, caller)
    return process


def _seen(session_id: str, caller: Caller, process: str, wait_s: float) -> dict[str, Any]:
    """Return a process after so long, or at its end; then with its output."""
    return _with_output(_ask(session_id, caller, "process", p=process, wait_s=wait_s, output=True))


def _ask(session_id: str, caller: Caller, do: str, *, answer: str = "process", **fields: Any) -> Any:  # noqa: ANN401
    found = _reached(lambda: context().session_worker.ask(do, session_id, caller.id, answer, **fields))
    return _done(found, session_id, caller)


def _done(found: Any, session_id: str, caller: Caller) -> Any:  # noqa: ANN401  # what the worker answers
    if isinstance(found, Refusal):
        raise context().sessions.refused(caller.id, session_id, found)
    return found


def _reached(call: Any) -> Any:  # noqa: ANN401  # what the worker answers
    try:
        return call()
    except (WorkerUnavailable, WorkerLost) as e:
        raise worker_unavailable() from e


def body_pieces() -> Iterator[bytes]:
    """Yield the body of the request as it arrives. Raises ApiError 400 when it is cut."""
    stream = request.environ["wsgi.input"]
    length = request.content_length
    if length is None and "HTTP_TRANSFER_ENCODING" not in request.environ:
        return
    arrival(request, STDIN_S + (length or 0) / (64 * 1024))
    got = 0
    while length is None or got < length:
        try:
            piece = stream.read(PIECE_BYTES if length is None else min(PIECE_BYTES, length - got))
        except Exception as e:
            raise ApiError(400, "The body could not be read.", code="incomplete_body") from e
        if not piece:
            break
        got += len(piece)
        yield piece
    if length is not None and got < length:
        raise ApiError(400, "The body ended before its Content-Length.", code="incomplete_body")
    arrival(request, None)


# -- answers -----------------------------------------------------------------------------------------


def _with_output(process: dict[str, Any]) -> dict[str, Any]:
    """Return the process with its output as text, if it has ended."""
    stdout, stderr = (base64.b64decode(process.pop(name)) for name in ("stdout", "stderr"))
    cut = process.pop("truncated")
    process.pop("kept_bytes")
    if process["status"] != "ended":
        return process
    text = {"stdout": stdout.decode("utf-8", "replace"), "stderr": stderr.decode("utf-8", "replace")}
    return process | text | {"stdout_truncated": cut, "stderr_truncated": cut}


def _first(messages: Iterator[Any], session_id: str, caller: Caller) -> dict[str, Any]:
    found: dict[str, Any] = _done(_reached(lambda: next(messages)), session_id, caller)
    return found


def _lines(first: dict[str, Any], messages: Iterator[Any], *, raw: bool) -> Iterator[bytes]:
    decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
    began = time.monotonic()
    message: Any = first
    while True:
        if isinstance(message, Refusal):
            return
        yield orjson.dumps(_event(message, decoders, raw=raw), option=orjson.OPT_APPEND_NEWLINE)
        if "process" in message or time.monotonic() - began > MAX_WAIT_S:
            return
        try:
            message = next(messages)
        except (StopIteration, WorkerUnavailable, WorkerLost):
            return


def _event(message: dict[str, Any], decoders: dict[str, Any], *, raw: bool) -> dict[str, Any]:
    if "process" in message:
        return {"event": "result", "data": message["process"]}
    kind = message["event"]
    if kind == "info":
        data: Any = {"dropped_bytes": message["dropped_bytes"]}
    else:
        data = base64.b64encode(message["data"]).decode() if raw else decoders[kind].decode(message["data"])
    return {"seq": message["seq"], "event": kind, "data": data, "t_ms": message["t_ms"]}


def _signal_number(asked: dict[str, Any]) -> int:
    if set(asked) != {"signal"} or not isinstance(asked.get("signal"), str):
        raise invalid("signal: is required, as a name such as SIGTERM", param="signal", code="missing_field")
    name = asked["signal"].upper()
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if not isinstance(found, signal.Signals):
        raise invalid("signal: must be the name of a signal, such as SIGTERM, SIGINT or SIGKILL", param="signal")
    return int(found)

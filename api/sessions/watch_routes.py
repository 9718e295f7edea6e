"""`/v1/sessions/{id}/files/watch` and `…/watchers`: the changes beneath a directory of a session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

import orjson
from flask import Blueprint, Response, request

from api.context import context
from api.errors import JSON
from api.http.body import parse_object, read_json_body
from api.http.json_response import json_response
from api.http.long_answers import stream_response
from api.http.media import NDJSON
from api.http.query import parse_int
from api.openapi.decorator import Answer, Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.runs.rendering import client_fd
from api.sessions.answers import Watcher, WatcherDeleted, WatchEvent, WatchEventList
from api.sessions.bodies import parse_flag, parse_query
from api.sessions.file_calls import FILE_ERRORS, WHERE, file_query
from api.sessions.file_requests import WatcherIn, body_path, parse_change, parse_path
from api.sessions.routes import INSIDE, PATH, opened
from api.sessions.worker_calls import not_refused, reached
from dispatch import ClientGone, WorkerLost, WorkerUnavailable
from dispatch.source import MessageSource
from protocol.result import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.keys.authentication import Caller

blueprint = Blueprint("session_watches", __name__)

_PATH = PATH | {"watcher": "The watcher's id."}
MAX_SEQ = 2**53
MAX_ID = 100
#: A stream is not kept longer; its client begins another.
MAX_STREAM_S = 3600.0
_KEEPALIVE = {"seq": None, "event": "keepalive", "path": None, "to": None}
_SEQ = {"type": "integer", "minimum": 0, "maximum": MAX_SEQ}
_RECURSIVE = Query("recursive", "`1` for all directories beneath it.", {"type": "string", "enum": ["0", "1"]})


@blueprint.get("/v1/sessions/<session_id>/files/watch")
@operation(
    "Stream the changes of a directory of a session",
    tag="sessions",
    description=(
        "From now on, until the client leaves or the directory is gone; `keepalive` after five seconds of silence. "
        "It does not keep the session active."
    ),
    path=PATH,
    query=(WHERE, _RECURSIVE),
    answers={200: Answer("A line for each change.", {NDJSON: WatchEvent})},
    errors=(*INSIDE, *FILE_ERRORS, "invalid_value", "too_many_connections"),
)
def watch_session_directory(session_id: str) -> Response:
    """Stream the changes beneath a directory."""
    query = parse_query(file_query(), "path", "recursive")
    path, recursive = parse_path(query), parse_flag(query, "recursive")
    caller = opened(session_id)
    release = context().places.followers.acquire(caller.id)
    source = MessageSource()
    try:
        messages = context().session_worker.watch(
            session_id, caller.id, path, recursive=recursive, client_fd=client_fd(), source=source
        )
        not_refused(reached(lambda: next(messages)), session_id, caller)
        response = stream_response(_lines(messages), source, NDJSON)
    except BaseException:
        release()
        raise
    response.call_on_close(messages.close)
    response.call_on_close(release)
    return response


@blueprint.post("/v1/sessions/<session_id>/files/watchers")
@operation(
    "Watch a directory of a session",
    tag="sessions",
    description="Its events are kept, the latest 1000. A session has at most 8 watchers, streams among them.",
    path=PATH,
    body=RequestBody({JSON: WatcherIn}, {"example": {"path": "src", "recursive": True}}),
    answers={201: Json("The watcher.", Watcher)},
    errors=(*JSON_BODY, *INSIDE, *FILE_ERRORS),
)
def create_watcher(session_id: str) -> Response:
    """Begin to watch a directory, and keep what happens."""
    caller = opened(session_id)
    asked = parse_change(WatcherIn, parse_object(read_json_body(request)))
    path = body_path(asked.path, "path", raw=asked.raw)
    recursive = bool(asked.recursive)
    made = _ask(session_id, caller, "watcher", "watcher", path=path.decode("latin-1"), recursive=recursive)
    found = {"id": made["id"], "object": "watcher", "path": asked.path, "recursive": recursive}
    return json_response(found, 201)


@blueprint.get("/v1/sessions/<session_id>/files/watchers/<watcher>/events")
@operation(
    "Get the events of a watcher",
    tag="sessions",
    path=_PATH,
    query=(
        Query("after", "Only events with a greater number.", {"type": "integer", "minimum": 0, "maximum": MAX_SEQ}),
    ),
    answers={200: Json("Those that are kept, the oldest first.", WatchEventList)},
    errors=(*INSIDE, "watcher_not_found", "invalid_value"),
)
def get_watcher_events(session_id: str, watcher: str) -> Response:
    """Return the events of a watcher that are kept."""
    after = parse_int(parse_query(request.args, "after").get("after"), "after", 0, MAX_SEQ, 0)
    caller = opened(session_id)
    found = _ask(session_id, caller, "watcher_events", "events", watcher=watcher[:MAX_ID], after=after)
    data = [_event(event) for event in found["events"]]
    return json_response({"object": "list", "data": data, "ended": found["is_over"]})


@blueprint.delete("/v1/sessions/<session_id>/files/watchers/<watcher>")
@operation(
    "Remove a watcher",
    tag="sessions",
    path=_PATH,
    answers={200: Json("The watcher has ended.", WatcherDeleted)},
    errors=(*INSIDE, "watcher_not_found"),
)
def remove_watcher(session_id: str, watcher: str) -> Response:
    """End a watcher."""
    caller = opened(session_id)
    _ask(session_id, caller, "unwatch", "unwatched", watcher=watcher[:MAX_ID])
    return json_response({"id": watcher, "object": "watcher", "deleted": True})


def _ask(session_id: str, caller: Caller, do: str, answer: str, **fields: Any) -> Any:  # noqa: ANN401
    found = reached(lambda: context().session_worker.ask(do, session_id, caller.id, answer, **fields))
    return not_refused(found, session_id, caller)


def _lines(messages: Iterator[Any]) -> Iterator[bytes]:
    """Yield a line for each event, and `keepalive` so that it is noticed that the client has left."""
    until = time.monotonic() + MAX_STREAM_S
    try:
        for message in messages:
            if isinstance(message, Refusal) or time.monotonic() > until:
                return
            yield orjson.dumps(
                _KEEPALIVE if "alive" in message else _event(message), option=orjson.OPT_APPEND_NEWLINE
            )
    except (WorkerUnavailable, WorkerLost, ClientGone):
        return


def _event(message: dict[str, Any]) -> dict[str, Any]:
    """Return an event of the API; with a path that is not UTF-8 both are percent-encoded."""
    kind = message["event"]
    path, to = (message[name].encode("latin-1") for name in ("path", "to"))
    try:
        texts, is_raw = (path.decode(), to.decode()), False
    except UnicodeDecodeError:
        texts, is_raw = (quote_from_bytes(path), quote_from_bytes(to)), True
    shown = {
        "seq": message["seq"],
        "event": kind,
        "path": None if kind == "overflow" else texts[0],
        "to": texts[1] if kind == "move" else None,
    }
    return shown | {"raw": True} if is_raw else shown

"""`/v1/sessions/{id}/contexts`: interpreters that keep their variables from one run of a session to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from api.errors import JSON, invalid
from api.http.body import parse_object, read_json_body
from api.http.json_response import json_response
from api.openapi.decorator import Json, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.sessions.answers import Completions, ContextDeleted, ContextList, Inspection, SessionContext
from api.sessions.context_requests import ContextIn, CursorIn, parse_context, parse_cursor
from api.sessions.process_routes import ask
from api.sessions.routes import INSIDE, PATH, opened

if TYPE_CHECKING:
    from api.keys.authentication import Caller

blueprint = Blueprint("session_contexts", __name__)

CONTEXT_PATH = PATH | {"ctx": "The context: its id or its name."}
MAX_NAME = 128
_ERRORS = (*INSIDE, "context_not_found")
_BODY_ERRORS = (*JSON_BODY, *_ERRORS, "too_long", "kernel_ended")


@blueprint.post("/v1/sessions/<session_id>/contexts")
@operation(
    "Create a context in a session",
    tag="sessions",
    description="Its kernel starts with its first run. Contexts run side by side; a session has at most 16.",
    path=PATH,
    body=RequestBody({JSON: ContextIn}, {"named": {"name": "analysis"}}),
    answers={201: Json("The context.", SessionContext)},
    errors=(*JSON_BODY, *INSIDE, "too_long", "not_supported", "too_many_contexts", "name_in_use"),
)
def create_context(session_id: str) -> Response:
    """Create a context."""
    caller = opened(session_id)
    asked = parse_context(parse_object(read_json_body(request)))
    fields = {"language": asked.language, "cwd": asked.cwd, "name": asked.name, "env": asked.env}
    return json_response(ask(session_id, caller, "create_context", answer="context", **fields), 201)


@blueprint.get("/v1/sessions/<session_id>/contexts")
@operation(
    "List the contexts of a session",
    tag="sessions",
    description="The default context of the session's language is among them from its first run on.",
    path=PATH,
    answers={200: Json("The contexts.", ContextList)},
    errors=INSIDE,
)
def list_contexts(session_id: str) -> Response:
    """List the contexts of a session."""
    found = ask(session_id, opened(session_id), "contexts", answer="contexts")
    return json_response({"object": "list", "data": found})


@blueprint.post("/v1/sessions/<session_id>/contexts/<ctx>/restart")
@operation(
    "Restart a context",
    tag="sessions",
    description="Its kernel is killed, and a run in it; the next run starts a new one, without variables.",
    path=CONTEXT_PATH,
    answers={200: Json("The context.", SessionContext)},
    errors=_ERRORS,
)
def restart_context(session_id: str, ctx: str) -> Response:
    """Restart a context."""
    return json_response(_done(session_id, ctx, "restart_context"))


@blueprint.post("/v1/sessions/<session_id>/contexts/<ctx>/interrupt")
@operation(
    "Interrupt a context",
    tag="sessions",
    description="The run that is under way ends with an exception; variables are kept. Without one: no effect.",
    path=CONTEXT_PATH,
    answers={200: Json("The context.", SessionContext)},
    errors=_ERRORS,
)
def interrupt_context(session_id: str, ctx: str) -> Response:
    """Interrupt the run of a context."""
    return json_response(_done(session_id, ctx, "interrupt_context"))


@blueprint.delete("/v1/sessions/<session_id>/contexts/<ctx>")
@operation(
    "Delete a context",
    tag="sessions",
    description="Its kernel is killed, and a run in it.",
    path=CONTEXT_PATH,
    answers={200: Json("The context is not there any more.", ContextDeleted)},
    errors=_ERRORS,
)
def delete_context(session_id: str, ctx: str) -> Response:
    """Delete a context."""
    found = _done(session_id, ctx, "delete_context")
    return json_response({"id": found["id"], "object": "context", "deleted": True})


@blueprint.post("/v1/sessions/<session_id>/contexts/<ctx>/complete")
@operation(
    "Complete code in a context",
    tag="sessions",
    description="Refused while a run is under way in the context.",
    path=CONTEXT_PATH,
    body=RequestBody({JSON: CursorIn}, {"word": {"code": "prin", "cursor": 4}}),
    answers={200: Json("The ways in which the word at the cursor can go on.", Completions)},
    errors=_BODY_ERRORS,
)
def complete(session_id: str, ctx: str) -> Response:
    """Return how the word at the cursor can go on."""
    found = _asked(session_id, ctx, "complete")
    matches = str(found.get("matches") or "")
    spot = {name: found[name] if isinstance(found.get(name), int) else 0 for name in ("start", "end")}
    return json_response({"matches": matches.split("\n") if matches else [], **spot})


@blueprint.post("/v1/sessions/<session_id>/contexts/<ctx>/inspect")
@operation(
    "Inspect a name in a context",
    tag="sessions",
    description="Refused while a run is under way in the context.",
    path=CONTEXT_PATH,
    body=RequestBody({JSON: CursorIn}, {"name": {"code": "print", "cursor": 5}}),
    answers={200: Json("The documentation of the name at the cursor, if there is any.", Inspection)},
    errors=_BODY_ERRORS,
)
def inspect(session_id: str, ctx: str) -> Response:
    """Return the documentation of the name at the cursor."""
    found = _asked(session_id, ctx, "inspect")
    return json_response({"found": found.get("found") is True, "text": str(found.get("text") or "")})


def _done(session_id: str, ctx: str, do: str) -> dict[str, Any]:
    caller = opened(session_id)
    return _context(session_id, caller, ctx, do, answer="context")


def _asked(session_id: str, ctx: str, about: str) -> dict[str, Any]:
    caller = opened(session_id)
    code, cursor = parse_cursor(parse_object(read_json_body(request)))
    fields = {"about": about, "code": code, "cursor": cursor}
    return _context(session_id, caller, ctx, "ask_context", answer="answer", **fields)


def _context(
    session_id: str,
    caller: Caller,
    ctx: str,
    do: str,
    *,
    answer: str,
    **fields: Any,  # noqa: ANN401  # what the worker takes
) -> dict[str, Any]:
    if len(ctx) > MAX_NAME:
        raise invalid(f"context: a name has at most {MAX_NAME} characters", param="context")
    found: dict[str, Any] = ask(session_id, caller, do, answer=answer, context=ctx, **fields)
    return found

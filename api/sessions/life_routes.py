"""`/v1/sessions/{id}`: change a session, pause and resume it, and make a token for it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context, require_caller
from api.errors import JSON, ApiError
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, parse_object, read_json_body
from api.http.json_response import json_response
from api.openapi.decorator import Json, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from api.sessions.answers import Session, SessionToken
from api.sessions.requests import SessionPatchIn, parse_patch
from api.sessions.routes import PATH

if TYPE_CHECKING:
    from api.keys.authentication import Caller

blueprint = Blueprint("session_life", __name__)

_ERRORS = ("session_not_found", "session_ended", "worker_unavailable")


@blueprint.patch("/v1/sessions/<session_id>")
@operation(
    "Change a session",
    tag="sessions",
    description=(
        "Its times, its metadata, and the hosts that its programs may reach. What is left out stays as it is. A "
        "session without a network gets one: then it is thawed, and must not be paused."
    ),
    path=PATH,
    body=RequestBody({JSON: SessionPatchIn}, {"longer": {"idle_timeout_s": 3600}}),
    answers={200: Json("The session as it is now.", Session)},
    errors=(
        *JSON_BODY, *_ERRORS, "too_long", "invalid_value", "limit_exceeds_maximum", "network_not_allowed",
        "session_busy", "session_paused", "overloaded",
    ),
)  # fmt: skip
def change_session(session_id: str) -> Response:
    """Change the times of a session, what it does when they are over, its hosts and its metadata."""
    caller = _caller()
    patch = parse_patch(parse_object(read_json_body(request)))
    return json_response(context().sessions.change(caller, session_id, patch))


@blueprint.post("/v1/sessions/<session_id>/pause")
@operation(
    "Pause a session",
    tag="sessions",
    description=(
        "Nothing runs in it until it is resumed, and its idle time stands still; its age does not. Refused while a "
        "run or a file operation is under way."
    ),
    path=PATH,
    answers={200: Json("The session is paused.", Session)},
    errors=(*_ERRORS, "session_busy"),
)
def pause_session(session_id: str) -> Response:
    """Stop everything in a session until it is resumed."""
    return json_response(context().sessions.pause(_caller().id, session_id))


@blueprint.post("/v1/sessions/<session_id>/resume")
@operation(
    "Resume a session",
    tag="sessions",
    description="Counts as activity. Without effect on one that is not paused.",
    path=PATH,
    answers={200: Json("The session goes on.", Session)},
    errors=(*_ERRORS, "overloaded"),
)
def resume_session(session_id: str) -> Response:
    """Let a paused session go on."""
    return json_response(context().sessions.resume(_caller().id, session_id))


@blueprint.post("/v1/sessions/<session_id>/token")
@operation(
    "Make a token for a session",
    tag="sessions",
    description=(
        "A bearer token for the calls of this session alone, the same each time. It is good until the session "
        "ends, and void while its key is disabled or once it is revoked."
    ),
    path=PATH,
    answers={200: Json("The token.", SessionToken)},
    errors=_ERRORS,
)
def make_session_token(session_id: str) -> Response:
    """Return the token of a session."""
    caller = _caller()
    context().sessions.live(caller.id, session_id)
    made = context().sessions.get(caller.id, session_id)
    token = context().session_tokens.make(session_id)
    return json_response({"token": token, "expires_at": made["expires_at"]})


def _caller() -> Caller:
    """Return the caller of a call about a session. Raises ApiError 401 or 429."""
    try:
        return require_caller(reading=True)
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise

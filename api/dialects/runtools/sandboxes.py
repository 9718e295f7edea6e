"""`/v1/sandboxes`: RunTools' sandboxes, which are sessions under another name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, request

from api.context import context
from api.dialects.caller import require_own_key
from api.dialects.execution import require_room
from api.dialects.field_names import rename_field
from api.dialects.reserved import OPEN_SANDBOX, OPEN_SANDBOX_BODY
from api.dialects.runtools import sandbox_schemas as schemas
from api.dialects.runtools.answers import render
from api.dialects.runtools.sandbox_answers import answer, executed, page, sandbox, session_id
from api.dialects.runtools.sandbox_requests import NAMES, process_fields, session_fields
from api.dialects.shared_paths import Claim, SharedPath
from api.errors import ApiError, invalid
from api.http.body import parse_object
from api.http.query import parse_int
from api.sessions.listing import page_of
from api.sessions.process_requests import parse_process
from api.sessions.process_routes import run_to_end
from api.sessions.requests import parse_session
from api.system.languages import SHOWN_AGE_S

if TYPE_CHECKING:
    from api.dialects.shared_paths import SharedView
    from api.openapi.decorator import Operation

NAME = "runtools"
PATH = "/v1/sandboxes"
LIMIT_DEFAULT, LIMIT_MAX = 50, 100
#: The values that `status` may ask for, and whether such sessions live; no session has another state for long.
_LIVE = {"running": True, "destroyed": False, "failed": False}
_NOT_FOUND = "Sandbox not found"


def create_sandbox(body: bytes) -> Response:
    """Create a session, or find the live one of that name."""
    caller = require_own_key(reading=False)
    require_room()
    offered = context().languages.offered(SHOWN_AGE_S)
    ids = {name: language.id for name, language in offered.by_name.items()}
    fields = session_fields(parse_object(body) if body else {}, ids, caller.plan)
    release = context().places.waiters.acquire(caller.id)
    try:
        made, is_new = context().sessions.create(parse_session(fields), caller)
    except ApiError as e:
        rename_field(e, NAMES)
        raise
    finally:
        release()
    return answer(sandbox(made), 201 if is_new else 200)


def list_sandboxes(_body: bytes) -> Response:
    """List the caller's sandboxes: those that live, unless a status is asked for."""
    caller = require_own_key(reading=True)
    status = request.args.get("status")
    limit = parse_int(request.args.get("limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT)
    after = None
    if (cursor := request.args.get("cursor")) is not None:
        after = session_id(cursor)
        if after is None:
            raise invalid("cursor: is not one of this list", param="cursor", code="invalid_cursor")
    if status is not None and status not in _LIVE:
        return page([], None)
    found, has_more = page_of(caller.id, limit=limit, after=after, live=_LIVE.get(status or "running"))
    rows = [sandbox(session) for session in found]
    last = rows[-1]["id"] if has_more else None
    return page([row for row in rows if status in (None, row["status"])], last)


def get_sandbox(_body: bytes, *, sandbox_id: str) -> Response:
    """Return one of the caller's sandboxes, by its id or its name."""
    caller = require_own_key(reading=True)
    return answer(sandbox(_find(caller.id, sandbox_id)))


def destroy_sandbox(_body: bytes, *, sandbox_id: str) -> Response:
    """End a sandbox with all that is in it. May be repeated."""
    caller = require_own_key(reading=False)
    found = _find(caller.id, sandbox_id)
    context().sessions.end(caller.id, found["id"])
    return answer(sandbox(context().sessions.get(caller.id, found["id"])))


def execute_in_sandbox(body: bytes, *, sandbox_id: str) -> Response:
    """Run a command in a sandbox and respond when it has ended."""
    caller = require_own_key(reading=True)
    found = _find(caller.id, sandbox_id)
    if found["end_reason"] is not None:
        raise _gone(f"{_NOT_FOUND}: it has ended ({found['end_reason']})")
    asked = parse_process(process_fields(parse_object(body) if body else {}))
    try:
        process = run_to_end(found["id"], caller, asked)
    except ApiError as e:
        raise _gone(f"{_NOT_FOUND}: it has ended") if e.error.code == "session_ended" else e from e
    return answer(executed(process))


def _find(owner: str, name: str) -> dict[str, Any]:
    """Return the session of a sandbox's id, or the live one of that name. Raises ApiError 404."""
    given = session_id(name)
    if given is not None:
        try:
            return context().sessions.get(owner, given)
        except ApiError as e:
            if e.status != 404:
                raise
    found, _ = page_of(owner, limit=1, live=True, name=name)
    if not found:
        raise _gone(_NOT_FOUND)
    return found[0]


def _gone(message: str) -> ApiError:
    return ApiError(404, message, code="session_not_found")


def _row(path: str, method: str, view: SharedView, said: Operation, *reserved: Claim) -> SharedPath:
    return SharedPath(path, method, (OPEN_SANDBOX, *reserved, Claim(NAME, view, render)), said)


_ONE = f"{PATH}/<sandbox_id>"
SHARED: tuple[SharedPath, ...] = (
    _row(PATH, "POST", create_sandbox, schemas.CREATE, OPEN_SANDBOX_BODY),
    _row(PATH, "GET", list_sandboxes, schemas.LIST),
    _row(_ONE, "GET", get_sandbox, schemas.GET),
    _row(_ONE, "DELETE", destroy_sandbox, schemas.DESTROY),
    _row(f"{_ONE}/exec", "POST", execute_in_sandbox, schemas.EXEC),
)

"""Put ended runs, sessions and errors into agent-coderunner's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from api.dialects.agentcoderunner.ids import execution_id, shown_session_id
from api.dialects.agentcoderunner.languages import name_of, shown
from api.dialects.answers import exact_json
from api.dialects.execution import answer
from api.dialects.flat_result import FlatResult
from api.dialects.status_codes import CODES
from api.errors import ApiError
from protocol.states import ENDED_STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Response

    from api.dialects.execution import DialectRun
    from api.keys.authentication import Caller
    from api.system.languages import OfferedLanguages

_CODES = CODES | {400: "bad_request", 402: "payment_required", 507: "insufficient_storage"}
_RETRY_S = "1"


def executed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a run as the result of an execution. One that has not ended has no `exitCode`."""
    flat = FlatResult.of(document)
    result = {
        "id": execution_id(document["id"]),
        "exitCode": flat.exit_code if document["status"] in ENDED_STATUSES else None,
        "stdout": flat.stdout.removesuffix("\n"),
        "stderr": flat.stderr + _traceback(document),
        "duration": flat.wall_ms,
        "timedOut": flat.timed_out,
        "language": name_of(document["language"]),
    }
    if document["stdout_truncated"] or document["stderr_truncated"]:
        result["truncated"] = True
    return result


def _traceback(document: dict[str, Any]) -> str:
    """Return the lines of the exception that ended a cell of a session: of a single run they are in stderr."""
    exception = document.get("exception")
    return "" if exception is None else "".join(f"{line}\n" for line in exception["traceback"])


def answer_run(run: DialectRun, shape: Callable[[dict[str, Any]], dict[str, Any]] = executed) -> Response:
    """Return the answer of a run, whose document `shape` puts into the service's fields."""
    try:
        return answer(run, orjson.dumps(shape(run.document)))
    except BaseException:
        run.release()
        raise


def recorded(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a run of the history: the result, and what only the history tells."""
    session = document.get("session_id")
    return executed(document) | {
        "status": document["status"],
        "sessionId": None if session is None else shown_session_id(session),
        "createdAt": document["created_at"],
    }


def listed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a run's document as a row of the history, which has no output."""
    row = recorded(document)
    del row["stdout"], row["stderr"]
    return row


def session_of(found: dict[str, Any], offered: OfferedLanguages) -> dict[str, Any]:
    """Return a session object as agent-coderunner shows it."""
    return {
        "sessionId": shown_session_id(found["id"]),
        "language": shown(found["language"], offered),
        "status": found["status"],
        "executions": found["runs"],
        "createdAt": found["created_at"],
        "lastActiveAt": found["last_active_at"],
        "expiresAt": found["expires_at"],
    }


def quota_as_payment(e: ApiError, caller: Caller) -> ApiError:
    """Return the error 402 for a quota of the caller's plan that is used up for good; any other error as it is."""
    if e.error.code != "quota_exceeded" or caller.plan is None or caller.plan.period != "all":
        return e
    kept = {name: value for name, value in e.headers.items() if name != "Retry-After"}
    return ApiError(402, e.error.message, code=e.error.code, headers=kept)


def render(e: ApiError) -> Response:
    """Return an error in agent-coderunner's shape; a session that has ended is one that is not there."""
    status = 404 if e.error.code == "session_ended" else e.status
    headers = dict(e.headers)
    if status in (429, 503):
        headers.setdefault("Retry-After", _RETRY_S)
    code = _CODES.get(status, "bad_request" if status < 500 else "internal_error")
    return exact_json({"error": code, "message": e.error.message}, status, headers)

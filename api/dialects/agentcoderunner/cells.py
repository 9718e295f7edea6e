"""Run a program in a session so that its variables stay, also where the language needs a named context for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.dialects.execution import DialectRun, execute_in_session
from api.errors import ApiError
from api.sessions.process_routes import ask

if TYPE_CHECKING:
    from api.keys.authentication import Caller

#: Languages whose sessions run code as a new process unless it names a context.
_BY_NAME = frozenset({"bash"})
CONTEXT = "agent-coderunner"


def run_cell(fields: dict[str, Any], caller: Caller, session_id: str) -> DialectRun:
    """Run a program given in the fields of `POST /v1/sessions/{id}/runs`, and wait for its end. Raises ApiError."""
    if fields["language"] not in _BY_NAME:
        return execute_in_session(fields, caller, session_id)
    fields = {**fields, "context": CONTEXT}
    try:
        return execute_in_session(fields, caller, session_id)
    except ApiError as e:
        if e.error.code != "context_not_found":
            raise
    _create(session_id, caller, str(fields["language"]))
    return execute_in_session(fields, caller, session_id)


def _create(session_id: str, caller: Caller, language: str) -> None:
    asked = {"language": language, "cwd": "/work", "name": CONTEXT, "env": {}}
    try:
        ask(session_id, caller, "create_context", answer="context", **asked)
    except ApiError as e:
        if e.error.code != "name_in_use":  # of two first executions the other one has made it
            raise

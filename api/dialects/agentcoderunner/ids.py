"""Name runs and sessions as agent-coderunner does: the same characters behind another prefix, without a table."""

from __future__ import annotations

_RUN, _EXECUTION = "run_", "exec-"
_SESSION, _SHOWN_SESSION = "sess_", "sess-"


def execution_id(run_id: str) -> str:
    """Return the name of a run as an execution."""
    return _EXECUTION + run_id.removeprefix(_RUN)


def run_id(execution: str) -> str | None:
    """Return the id of the run that an execution's id names; None for what is no such id."""
    return _RUN + execution.removeprefix(_EXECUTION) if execution.startswith(_EXECUTION) else None


def shown_session_id(session_id: str) -> str:
    """Return a session's id as agent-coderunner's clients see it."""
    return _SHOWN_SESSION + session_id.removeprefix(_SESSION)


def session_id(shown: str) -> str | None:
    """Return the id of the session that a client names; None for what is no such id."""
    return _SESSION + shown.removeprefix(_SHOWN_SESSION) if shown.startswith(_SHOWN_SESSION) else None

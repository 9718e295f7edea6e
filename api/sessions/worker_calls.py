"""Call the worker about a session: a worker that does not answer and a refusal become errors of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.context import context
from api.system.languages import worker_unavailable
from dispatch import WorkerLost, WorkerUnavailable
from protocol.result import Refusal

if TYPE_CHECKING:
    from api.keys.authentication import Caller


def reached(call: Any) -> Any:  # noqa: ANN401  # what the worker answers
    """Return what a call of the worker returns. Raises ApiError 503 when it does not answer."""
    try:
        return call()
    except (WorkerUnavailable, WorkerLost) as e:
        raise worker_unavailable() from e


def not_refused(found: Any, session_id: str, caller: Caller) -> Any:  # noqa: ANN401  # what the worker answers
    """Return what the worker answered. Raises ApiError for a refusal."""
    if isinstance(found, Refusal):
        raise context().sessions.refused(caller.id, session_id, found)
    return found

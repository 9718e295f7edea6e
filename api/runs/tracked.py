"""A run under way as the reconciler knows it, and the end that a worker's result makes of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.errors import ErrorObject, error_type
from api.runs.document import INTERRUPTED as INTERRUPTED_CODE
from api.runs.document import ResultError, RunRecord

if TYPE_CHECKING:
    from records.runs import RunEnd

log = logging.getLogger(__name__)

LOST = ErrorObject(
    "The worker went away while this ran; its result is not known.", error_type(500), None, "worker_lost"
)
INTERRUPTED = ErrorObject(
    "The service was restarted while this was under way; its result is not known.",
    error_type(500),
    None,
    INTERRUPTED_CODE,
)


@dataclass(slots=True)
class TrackedRun:
    """A run under way. After `handed_over_at` (monotonic seconds) no thread waits for it, and the worker has it or
    it is lost.
    """

    facts: RunRecord
    error: ErrorObject = LOST
    started_at: str | None = None
    handed_over_at: float | None = None


def end_of(expected: TrackedRun, result: object) -> RunEnd:
    """Return the end of a run by its result; by none that can be read it is lost."""
    if isinstance(result, dict):
        try:
            return expected.facts.ended(result)
        except ResultError as e:
            log.warning("a run was lost: %s", e, extra={"run_id": expected.facts.id})
    return expected.facts.failed(LOST, expected.started_at)

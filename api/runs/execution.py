"""The outcome of `RunService.execute`, free of HTTP: a route, or a dialect of another service, renders it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from api.http.concurrency import nothing
from records.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.runs.events import Message
    from records.runs import StoredEvent

#: The event that a caller waits for: the end of the run, its first event, or its acceptance.
Wait = Literal["result", "events", "background"]


@dataclass(frozen=True, slots=True)
class Execution:
    """A run that was executed, or one that an Idempotency-Key has found again.

    Call `release` once the answer was sent or has failed: it gives up the place that the caller holds, and may be
    called more than once.
    """

    #: The run, or its events when they were waited for. To close the events of a live run cancels it.
    outcome: Run | Iterator[Message]
    #: True for a run of an earlier request with the same Idempotency-Key.
    is_replay: bool = False
    release: Callable[[], None] = nothing
    #: The timeline of a run whose result was waited for, as it is recorded.
    timeline: tuple[StoredEvent, ...] = ()


def ended_run(execution: Execution) -> Run:
    """Return the run of an execution whose result was waited for."""
    if not isinstance(execution.outcome, Run):
        raise TypeError("the result was not waited for")
    return execution.outcome

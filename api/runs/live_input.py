"""Run a program with a client that talks with it: its events, and input and signals for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.errors import FAILURES, of_failure
from api.system.languages import worker_unavailable
from dispatch import ClientGone, WorkerLost, WorkerUnavailable
from records.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from api.context import Context
    from api.files.links import ArtifactLinkSigner
    from api.runs.events import Message
    from api.runs.execution import Execution
    from api.runs.submission import RunSubmission


class ClientLeft(Exception):
    """The client has gone; its run is cancelled by that."""


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """A run under way: its events, and what gives the place up. To close the events cancels the run."""

    events: Generator[Message, None, None]
    release: Callable[[], None]


def follow(found: Context, submission: RunSubmission, signer: ArtifactLinkSigner, client_fd: int) -> FollowedRun:
    """Run a submission and follow it. When the peer of `client_fd` goes away it is cancelled.

    Raises ApiError, ClientLeft; so do the events.
    """
    try:
        execution = found.runs.execute(submission, wait="events", signer=signer, client_fd=client_fd)
    except ClientGone as e:
        raise ClientLeft from e
    return FollowedRun(_events_of(execution), execution.release)


def write_input(found: Context, run_id: str, data: bytes) -> None:
    """Write to a live run; without effect on one that takes no input. Raises ApiError 503."""
    try:
        found.session_worker.write_run_input(run_id, [data], close=False)
    except (WorkerUnavailable, WorkerLost) as e:
        raise worker_unavailable() from e


def send_signal(found: Context, run_id: str, number: int) -> None:
    """Send a signal to a live run; without effect on one that takes none. Raises ApiError 503."""
    try:
        found.session_worker.signal_run(run_id, number)
    except (WorkerUnavailable, WorkerLost) as e:
        raise worker_unavailable() from e


def _events_of(execution: Execution) -> Generator[Message, None, None]:
    if isinstance(execution.outcome, Run):
        raise TypeError("the events were not waited for")
    try:
        yield from execution.outcome
    except ClientGone as e:
        raise ClientLeft from e
    except FAILURES as e:
        raise of_failure(e) from e

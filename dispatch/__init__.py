"""How api reaches a worker: one interface, one module per transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sandbox.job import Job, Refusal


class DispatchError(Exception):
    """The base of what can go wrong between api and worker."""


class WorkerUnavailable(DispatchError):
    """No worker answers: nothing was started."""


class WorkerLost(DispatchError):
    """The worker went away after it had taken the job: the run is over, its result is not known."""


class ClientGone(DispatchError):
    """Whoever waited for the run has gone; the run was cancelled."""


class Dispatcher(Protocol):
    """Reaches a worker. A job, its events and its result are the same JSON on every transport."""

    def run(
        self,
        job: Job,
        *,
        client_fd: int | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any] | Refusal:
        """Run a job and wait for its result (`sandbox.job.Result.to_json`), or for why it was refused.

        `client_fd` is the waiting client's socket: when its peer goes away the run is cancelled and
        ClientGone raised. Raises WorkerUnavailable, WorkerLost.
        """
        ...

    def status(self) -> dict[str, Any]:
        """Languages with `ready`, engine, runtime, pool and queue, as the worker sees them.

        Raises WorkerUnavailable.
        """
        ...

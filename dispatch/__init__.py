"""The connection from api to a worker: one interface, one module per transport."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from protocol.job import Job
from protocol.result import Refusal

if TYPE_CHECKING:
    from dispatch.source import MessageSource


class DispatchError(Exception):
    """The base of what can go wrong between api and worker."""


class WorkerUnavailable(DispatchError):
    """No worker answers: nothing was started."""


class WorkerLost(DispatchError):
    """The worker went away after it had taken the job: the run is over, its result is not known."""


class ClientGone(DispatchError):
    """The client that waited for the run disconnected. The run is being cancelled; collectors get its end."""


class EventsUnknown(DispatchError):
    """The worker has no such live run: it has ended, or never began."""


class FeedItem(NamedTuple):
    """One message to a collector.

    `runs`: {"live": {id: the data of its newest `info` event, or null}}: every run the worker still has, or whose
    result is not acknowledged. First and once with one worker; with several whenever one of them has gone.
    `found`: the same of one worker of several, which has come, or come back; other runs may be elsewhere.
    `status`: the data of an `info` event: a background run waits, or runs.
    `ended`: {"run_id", "result"}: a result that is kept until it is acknowledged.
    """

    kind: Literal["runs", "found", "status", "ended"]
    data: dict[str, Any]
    #: For `runs`: when it was asked for (monotonic seconds); None if that was when collecting began.
    asked_at: float | None = None


class Dispatcher(Protocol):
    """Reaches a worker. A job, its events and its result are the same JSON on every transport.

    A run that is left (its iterator closed, its client gone) is cancelled, unless it was submitted; one whose
    process of api is killed is interrupted. Collectors
    get the result of a run that was left, or whose connection broke.
    """

    @property
    def is_connected(self) -> bool:
        """Return whether the broker between api and workers can be used now; True where there is none."""
        ...

    def run(
        self,
        job: Job,
        *,
        client_fd: int | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        keep: Callable[[dict[str, Any]], bool] | None = None,
    ) -> dict[str, Any] | Refusal:
        """Run a job and wait for its result (`protocol.result.Result.to_json`), or for why it was refused.

        `on_event` gets the `info` events of a run that has to wait. The result is acknowledged when `keep` returns
        that it is recorded, else collectors get it. `client_fd` is the waiting client's socket: when
        its peer goes away the run is cancelled and ClientGone raised. Raises WorkerUnavailable, WorkerLost.
        """
        ...

    def stream(
        self, job: Job, *, client_fd: int | None = None, source: MessageSource | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """Run a job and yield its events, at last `{"result": …}`, or else `{"refused": …}` alone.

        The result is acknowledged when the iterator is asked for more. `source` tells where the next event comes
        from. Raises as `run` does.
        """
        ...

    def submit(self, job: Job) -> Refusal | None:
        """Start a job in the background. Raises WorkerUnavailable, WorkerLost (it may run)."""
        ...

    def cancel(self, run_id: str) -> bool:
        """Have a live run end `cancelled`; False if the worker has none of that id. Raises WorkerUnavailable."""
        ...

    def events(
        self, run_id: str, after: int, *, client_fd: int | None = None, source: MessageSource | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield a live run's events with a number greater than `after`, until it has ended.

        `source` tells where the next event comes from; with it NOTHING_YET is yielded when the worker was asked.
        Raises EventsUnknown, WorkerUnavailable, WorkerLost, ClientGone.
        """
        ...

    def collect(self, *, client_fd: int | None = None) -> Iterator[FeedItem]:
        """Yield messages about the runs that no connection waits for, while the worker is reachable.

        When the peer of `client_fd` goes away ClientGone is raised. Raises WorkerUnavailable, WorkerLost.
        """
        ...

    def acknowledge(self, run_id: str) -> None:
        """Acknowledge a collected result after recording it. Raises WorkerUnavailable; it is then sent again."""
        ...

    def forget(self, hashes: Sequence[str]) -> list[str]:
        """Have the blobs of artifacts removed that no record names any more; those that are gone.

        Spared are what was stored a moment ago, and what a result names that is not acknowledged. Raises
        WorkerUnavailable, also when the worker cannot reach its storage.
        """
        ...

    def status(self) -> dict[str, Any]:
        """Return the languages with `ready`, engine, runtime, pool and queue, as the worker sees them.

        Raises WorkerUnavailable.
        """
        ...

    def layer_facts(self, key: str, layer_id: str) -> dict[str, Any] | None:
        """Return the facts of a layer of packages; None for one that the key has never used.

        Raises WorkerUnavailable.
        """
        ...

    def metrics(self) -> str:
        """Return the worker's metrics in Prometheus's text format. Raises WorkerUnavailable."""
        ...

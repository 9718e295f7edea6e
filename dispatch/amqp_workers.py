"""The workers that have announced themselves, and which of them takes the next job."""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dispatch import WorkerUnavailable
from protocol.result import Refusal

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Iterator

    from dispatch.worker_client import WorkerClient
    from protocol.job import Job
    from transport.endpoint import Peer

#: Runs of which it is known which worker has them.
MOST_HOMES = 100_000
#: Seconds for which a job waits for a first worker to announce itself, once the broker is reached.
FIRST_WORKER_S = 1.0
#: A worker announces within this that it has taken a run.
ANNOUNCED_S = 0.5


@dataclass(eq=False, slots=True)
class RemoteWorker:
    """One worker: its newest announcement, and the runs of this process that it has."""

    peer: Peer
    #: Connections for jobs, which a broker that restarts keeps, and for everything else.
    jobs: WorkerClient
    requests: WorkerClient
    #: Opens a bare connection. Raises WorkerUnavailable.
    connect: Callable[[], socket.socket]
    languages: frozenset[str] = frozenset()
    isolations: frozenset[str] = frozenset()
    places: int = 0
    load: int = 0
    sessions: int = 0
    is_stopping: bool = False
    #: The runs that this process waits for.
    mine: set[str] = field(default_factory=set)
    #: Those that it has handed over a moment ago, with the time until which they are counted here: no announcement
    #: may have counted them yet.
    handed_over: dict[str, float] = field(default_factory=dict)
    #: The part of `load` that was none of these when it was announced.
    others: int = 0

    @property
    def name(self) -> str:
        """Return the id of the worker's process."""
        return self.peer.name

    @property
    def free(self) -> int:
        """Return the number of free places, negative if runs wait for one."""
        return self.places - self.others - len(self.mine) - len(self.handed_over)

    def settle(self) -> None:
        """Count the runs that were handed over some time ago among the others."""
        now = time.monotonic()
        for run_id in [run_id for run_id, until in self.handed_over.items() if until <= now]:
            del self.handed_over[run_id]
            self.others += 1

    def update(self, facts: dict[str, Any]) -> None:
        """Take an announcement over; what cannot be read counts as nothing."""
        self.languages, self.isolations = _texts(facts.get("languages")), _texts(facts.get("isolations"))
        self.places, self.load = _count(facts.get("places")), _count(facts.get("load"))
        self.sessions = _count(facts.get("sessions"))
        self.is_stopping = facts.get("is_stopping") is True
        self.settle()
        self.others = max(0, self.load - len(self.mine) - len(self.handed_over))

    def can_run(self, job: Job) -> bool:
        """Return whether this worker has what a job needs."""
        return not self.is_stopping and job.language in self.languages and job.isolation in self.isolations


class WorkerDirectory:
    """The known workers, and which of them has which run. Safe from any thread."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._workers: dict[str, RemoteWorker] = {}
        self._homes: OrderedDict[str, str] = OrderedDict()
        #: Counts the workers that have gone.
        self.losses = 0

    def announce(self, worker: RemoteWorker, facts: dict[str, Any]) -> None:
        """Add a worker, or take over its announcement."""
        with self._change:
            known = self._workers.setdefault(worker.name, worker)
            known.update(facts)
            self._change.notify_all()

    def find(self, name: str) -> RemoteWorker | None:
        """Return a worker by name."""
        with self._change:
            return self._workers.get(name)

    def remove(self, name: str) -> None:
        """Remove a worker that has gone."""
        with self._change:
            if self._workers.pop(name, None) is not None:
                self.losses += 1

    def all(self) -> list[RemoteWorker]:
        """Return every worker. Raises WorkerUnavailable if there is none."""
        with self._change:
            if not self._workers:
                raise WorkerUnavailable("no worker has announced itself")
            return list(self._workers.values())

    def known(self) -> list[RemoteWorker]:
        """Return every worker."""
        with self._change:
            return list(self._workers.values())

    def place(self, job: Job, tried: Collection[str]) -> RemoteWorker | Refusal | None:
        """Return the worker for a job, with the most free places of those that can run it and were not tried.

        Of several the one with the fewest sessions is taken. None if all of them were tried; a Refusal if no worker
        can run it. Raises WorkerUnavailable.
        """
        with self._change:
            if not self._workers:
                self._change.wait_for(lambda: self._workers, FIRST_WORKER_S)
            if not self._workers:
                raise WorkerUnavailable("no worker has announced itself")
            able = [worker for worker in self._workers.values() if worker.can_run(job)]
            if not able:
                message = f"no worker runs {job.language} with the isolation {job.isolation} now"
                return Refusal(503, message, "language_not_ready", "language", 5)
            left = [worker for worker in able if worker.name not in tried]
            for worker in left:
                worker.settle()
            return max(left, key=lambda worker: (worker.free, -worker.sessions, random.random()), default=None)  # noqa: S311

    @contextmanager
    def carrying(self, worker: RemoteWorker, run_id: str) -> Iterator[None]:
        """Count a run among those that the worker has, and remember where it is."""
        with self._change:
            worker.mine.add(run_id)
        self.remember(run_id, worker.name)
        try:
            yield
        finally:
            with self._change:
                worker.mine.discard(run_id)

    def hand_over(self, worker: RemoteWorker, run_id: str) -> None:
        """Count a run that nobody waits for until the worker has announced that it has it."""
        with self._change:
            worker.handed_over[run_id] = time.monotonic() + ANNOUNCED_S

    def remember(self, run_id: str, name: str) -> None:
        """Note which worker has a run."""
        with self._change:
            self._homes[run_id] = name
            self._homes.move_to_end(run_id)
            while len(self._homes) > MOST_HOMES:
                self._homes.popitem(last=False)

    def by_likelihood(self, run_id: str) -> list[RemoteWorker]:
        """Return all workers, that which probably has a run first. Raises WorkerUnavailable if there is none."""
        found = self.all()
        with self._change:
            home = self._homes.get(run_id)
        return sorted(found, key=lambda worker: worker.name != home)

    def home(self, run_id: str) -> RemoteWorker | None:
        """Return the worker that has a run, if that is known and the worker is there."""
        with self._change:
            return self._workers.get(self._homes.get(run_id, ""))


def _texts(value: object) -> frozenset[str]:
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0

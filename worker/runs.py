"""The runs of this worker: live ones, and results that are not acknowledged yet.

A result is kept until api acknowledges it. If a connection waits for it, it is sent there first. If that
connection is closed, or there never was one (a background run), it is sent to the collectors: connections of
api that get every such run, including all earlier ones.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from protocol.result import Result
from sandbox.engines import syscalls
from sandbox.run.live import LiveRun, Stop


class DuplicateRun(Exception):
    """A run of this id is here already, alive or not yet acknowledged."""


class TableFull(Exception):
    """More results wait for an acknowledgement than may be kept."""


@dataclass(slots=True)
class _Run:
    """A run of the table. Its result is for a connection, or for the collectors (`adrift`)."""

    live: LiveRun
    detached: bool
    result: Result | None = None


@dataclass(slots=True, eq=False)
class ResultSubscriber:
    """The messages for one collecting connection, in order; None is its end."""

    queue: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)


class RunTable:
    """Every run of this worker, by id. Safe from any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._runs: dict[str, _Run] = {}
        self._collectors: set[ResultSubscriber] = set()
        self._change = threading.Condition()
        #: The sessions that are sent to a new collector.
        self.sessions: Callable[[], dict[str, Any]] = dict
        #: True if a run had a large output since memory was last returned to the kernel.
        self._had_large = False

    def add(self, live: LiveRun) -> None:
        """Add a run. One without a listener is delivered to the collectors. Raises Taken, Full."""
        with self._change:
            if live.id in self._runs:
                raise DuplicateRun(live.id)
            if len(self._runs) >= self._most:
                raise TableFull
            self._runs[live.id] = _Run(live, detached=live.outlet is None)

    def get(self, run_id: str) -> LiveRun | None:
        """Return the run while it is alive."""
        with self._change:
            run = self._runs.get(run_id)
            return run.live if run is not None and run.result is None else None

    def status(self, info: dict[str, Any]) -> None:
        """Send the collectors the state of a run without a connection."""
        with self._change:
            self._tell({"status": info})

    def ended(self, run_id: str, result: Result) -> None:
        """Store the result of a run until it is acknowledged."""
        with self._change:
            run = self._runs[run_id]
            run.result = result
            self._had_large = self._had_large or bool(result.outputs)
            if run.detached:
                self._tell(_ended(run_id, result))
            self._change.notify_all()

    def detach(self, run_id: str) -> None:
        """Deliver the run's result to the collectors, because the connection that waited for it closed."""
        with self._change:
            run = self._runs.get(run_id)
            if run is not None and not run.detached:
                run.detached = True
                if run.result is not None:
                    self._tell(_ended(run_id, run.result))

    def unacknowledged_artifacts(self) -> frozenset[str]:
        """Return the hashes of blobs in unacknowledged results: no record names them yet."""
        with self._change:
            results = [run.result for run in self._runs.values() if run.result is not None]
        artifacts = {artifact.sha256 for result in results for artifact in result.artifacts}
        return frozenset(artifacts | {output.sha256 for result in results for output in result.outputs})

    def refused(self, run_id: str) -> None:
        """Remove a run that was refused: it has no result."""
        with self._change:
            self._runs.pop(run_id, None)
            self._change.notify_all()

    def acknowledged(self, run_id: str) -> None:
        """Remove a result that api has stored. Without effect on a run that is alive."""
        with self._change:
            run = self._runs.get(run_id)
            if run is not None and run.result is not None:
                del self._runs[run_id]
                self._change.notify_all()
            is_idle = not self._runs and self._had_large
            if is_idle:
                self._had_large = False
        if is_idle:
            # Many large outputs leave holes in the heap, which the allocator keeps by itself: 230 MB of 110 runs.
            syscalls.malloc_trim()

    # -- collectors --------------------------------------------------------------------------------

    def collect(self) -> ResultSubscriber:
        """Return a new collector, which receives the list of runs, each waiting result, then new ones."""
        collector = ResultSubscriber()
        with self._change:
            live = {run_id: run.live.info for run_id, run in self._runs.items()}
            collector.queue.put({"runs": {"live": live, "sessions": self.sessions()}})
            for run_id, run in self._runs.items():
                if run.detached and run.result is not None:
                    collector.queue.put(_ended(run_id, run.result))
            self._collectors.add(collector)
        return collector

    def leave(self, collector: ResultSubscriber) -> None:
        """Remove a collector."""
        with self._change:
            self._collectors.discard(collector)
            collector.queue.put(None)

    def tell(self, message: dict[str, Any]) -> None:
        """Send the collectors a message that is not about a run."""
        with self._change:
            self._tell(message)

    def _tell(self, message: dict[str, Any]) -> None:
        for collector in self._collectors:
            collector.queue.put(message)

    # -- the end -----------------------------------------------------------------------------------

    def wait_until_ended(self, timeout_s: float) -> bool:
        """Wait until no run is alive."""
        with self._change:
            return self._change.wait_for(lambda: all(run.result for run in self._runs.values()), timeout_s)

    def wait_until_acknowledged(self, timeout_s: float) -> bool:
        """Wait until every result is acknowledged."""
        with self._change:
            return self._change.wait_for(lambda: not self._runs, timeout_s)

    def end_all(self, why: Stop) -> None:
        """End every run that is alive."""
        with self._change:
            runs = [run.live for run in self._runs.values() if run.result is None]
        for live in runs:
            live.cancel(why)


def _ended(run_id: str, result: Result) -> dict[str, Any]:
    return {"ended": {"run_id": run_id, "result": result}}

"""Record the results of runs that no request waits for: background runs, and runs whose client left.

One thread receives the worker's messages about such runs, records them, and acknowledges every result once it is
recorded. A run that the worker should have and has not is over: it ends `error`. So do, at the start of this
process, the runs that an earlier one accepted and the worker does not know. A run that a worker has although it is
over is ended there (`api.runs.given_up`).

With several processes (`siblings`) each of them receives every result. One that another expects is
left to that one; and what looks like an earlier process's run may be about to be dispatched by a sibling, so it is
given up only if the worker still does not know it after a while.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from api.errors import ErrorObject, error_type
from api.runs.document import INTERRUPTED as INTERRUPTED_CODE
from api.runs.document import ResultError, RunRecord
from api.runs.given_up import end_given_up
from config.failpoints import failpoint
from dispatch import ClientGone, FeedItem, WorkerLost, WorkerUnavailable
from records.errors import RecordsUnavailable
from records.runs import FIRST_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from dispatch import Dispatcher
    from records.runs import Run, RunEnd, RunStore

log = logging.getLogger(__name__)
T = TypeVar("T")

LOST = ErrorObject(
    "The worker went away while this ran; its result is not known.", error_type(500), None, "worker_lost"
)
INTERRUPTED = ErrorObject(
    "The service was restarted while this was under way; its result is not known.",
    error_type(500),
    None,
    INTERRUPTED_CODE,
)
RECONNECT_S = 0.1
RECONNECT_MOST_S = 1.0
#: After this many seconds without a worker, its runs are given up.
GONE_S = 10.0
#: Until then the worker has or has refused every run that a sibling accepted.
SETTLED_S = 15.0
#: Between tries to write down what must not be lost.
INSIST_S = 0.5
STOP_WITHIN_S = 10.0


@dataclass(slots=True)
class _TrackedRun:
    """A run under way. From `handed_over_at` (monotonic seconds) the worker has it and no thread waits for it."""

    facts: RunRecord
    error: ErrorObject = LOST
    started_at: str | None = None
    handed_over_at: float | None = None


class ResultReconciler:
    """Sees that every run under way comes to an end in the store. Safe from any thread."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        store: RunStore,
        *,
        keep_files_ms: int,
        siblings: bool = False,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_lost` is called when the worker has gone away."""
        self._on_lost = on_lost
        self._keep_files_ms = keep_files_ms
        self._siblings = siblings
        self._dispatcher = dispatcher
        self._store = store
        self._expected: dict[str, _TrackedRun] = {}
        #: Runs whose INSERT may have been committed although the call failed. They will be deleted.
        self._uncertain: set[str] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        #: A pipe whose writing end is closed to end what waits for the worker.
        self._ends: tuple[int, int] | None = None

    def start(self) -> None:
        """Listen, after the runs of earlier processes were looked up. Without effect the second time."""
        with self._lock:
            if self._ends is None:
                self._ends = os.pipe()
                self._start_thread("collector", self._listen)

    def stop(self) -> None:
        """End the threads: each has recorded what it received, or leaves that to a later process.

        Waits a while for them. Without effect the second time.
        """
        with self._lock:
            ends, threads = self._ends, list(self._threads)
            if ends is None or self._stopped.is_set():
                return
            self._stopped.set()
        os.close(ends[1])
        for thread in threads:
            thread.join(STOP_WITHIN_S)
        if not any(thread.is_alive() for thread in threads):
            os.close(ends[0])

    def track(self, facts: RunRecord) -> None:
        """Track a run that is about to be dispatched, so that a result for it is recorded."""
        self._expected[facts.id] = _TrackedRun(facts)

    def untrack(self, run_id: str) -> None:
        """Stop tracking a run: a request thread has recorded its end."""
        self._expected.pop(run_id, None)

    def take_over(self, run_id: str) -> None:
        """Take over the run: no request thread will record its result, and the worker has accepted the job."""
        expected = self._expected.get(run_id)
        if expected is not None:
            expected.handed_over_at = time.monotonic()

    def mark_uncertain(self, run_id: str) -> None:
        """Mark the run for deletion once the database is back: its INSERT may have been committed although the call
        failed.
        """
        self._uncertain.add(run_id)

    # -- the thread --------------------------------------------------------------------------------

    def _start_thread(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _collect(self) -> Iterator[FeedItem]:
        return self._dispatcher.collect(client_fd=None if self._ends is None else self._ends[0])

    def _listen(self) -> None:
        try:
            self._retry_until_stored(self._recover)
        except RecordsUnavailable:  # stopped
            return
        if self._siblings:
            with self._lock:
                if not self._stopped.is_set():
                    self._start_thread("collector-again", self._look_again)
        pause_s = RECONNECT_S
        gone_at = time.monotonic()
        while not self._stopped.is_set():
            connected_at = time.monotonic()
            try:
                for told in self._collect():
                    pause_s = RECONNECT_S
                    self._handle(told, connected_at)
            except WorkerUnavailable:
                pass
            except (ClientGone, RecordsUnavailable):  # stopped
                return
            except WorkerLost:
                gone_at = time.monotonic()
                self._on_lost()
            except Exception:
                log.exception("collecting results failed")
                gone_at = time.monotonic()
            if time.monotonic() - gone_at > GONE_S:
                self._fail_missing((), time.monotonic())
            self._stopped.wait(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MOST_S)

    def _recover(self) -> None:
        """Expect the runs that an earlier process accepted: the worker reports which of them it has."""
        for run in self._store.unfinished():
            if run.id not in self._expected:
                facts = RunRecord.recorded(run, self._request_bytes(run), self._keep_files_ms)
                handed_over_at = time.monotonic() if self._siblings else float("-inf")
                self._expected[run.id] = _TrackedRun(facts, INTERRUPTED, handed_over_at=handed_over_at)

    def _request_bytes(self, run: Run) -> int:
        blob = self._store.request_blob(run.owner, run.id)
        return blob.size if blob is not None else len(self._store.request(run.owner, run.id) or b"")

    def _look_again(self) -> None:
        """Ask the worker once more for what it has, when nothing of a sibling's can be on its way to it."""
        while not self._stopped.wait(SETTLED_S):
            connected_at = time.monotonic()
            try:
                for told in self._collect():
                    self._handle(told, connected_at)
                    if told.kind == "runs":
                        break
            except (WorkerUnavailable, WorkerLost):
                continue
            except (ClientGone, RecordsUnavailable):  # stopped
                return
            return

    def _handle(self, told: FeedItem, connected_at: float) -> None:
        if told.kind in ("runs", "found"):
            live = told.data.get("live")
            known = live if isinstance(live, dict) else {}
            if told.kind == "runs":
                self._fail_missing(known, connected_at if told.asked_at is None else told.asked_at)
            for info in known.values():
                self._note_status(info)
            end_given_up(self._dispatcher, known, expected=self._expected, is_live=self._is_live)
        elif told.kind == "status":
            self._note_status(told.data)
        else:
            self._note_end(str(told.data.get("run_id")), told.data.get("result"))

    def _note_status(self, info: dict[str, Any] | None) -> None:
        expected = self._expected.get(str(info.get("id"))) if info is not None else None
        if info is None or expected is None or info.get("status") != "running":
            return
        expected.started_at = started_at = str(info.get("at"))
        document = expected.facts.live("running", started_at)
        self._retry_until_stored(lambda: self._store.begin(expected.facts.id, FIRST_ATTEMPT, document))

    def _note_end(self, run_id: str, result: object) -> None:
        expected = self._expected.get(run_id)
        if expected is not None:
            end = _end(expected, result)
            failpoint("ended")
            self._retry_until_stored(lambda: self._store.finish(run_id, FIRST_ATTEMPT, end))
            failpoint("recorded")
            self.untrack(run_id)
        elif self._siblings and self._retry_until_stored(lambda: self._is_open(run_id)):
            return
        self._dispatcher.acknowledge(run_id)

    def _is_live(self, run_id: str) -> bool:
        return self._retry_until_stored(lambda: self._store.is_live(run_id))

    def _is_open(self, run_id: str) -> bool:
        """Return whether the run has no recorded end yet: a sibling process may be about to record it."""
        return any(run.id == run_id for run in self._store.unfinished())

    def _fail_missing(self, known: Container[str], since: float) -> None:
        """End the runs that the worker had before `since` and has not now."""
        for run_id, expected in list(self._expected.items()):
            if expected.handed_over_at is not None and expected.handed_over_at < since and run_id not in known:
                log.warning("a run was lost with its worker", extra={"run_id": run_id})
                self.end(expected.facts, expected.facts.failed(expected.error, expected.started_at))

    def end(self, facts: RunRecord, end: RunEnd) -> None:
        """Record an end that the worker knows nothing of, however long that takes. For any thread."""
        self._retry_until_stored(lambda: self._store.finish(facts.id, FIRST_ATTEMPT, end))
        about = {"run_id": facts.id, "status": end.status, "exit_code": None, "signal": None}
        log.info("run ended", extra={**about, "language": facts.language})
        self.untrack(facts.id)

    def _retry_until_stored(self, write: Callable[[], T]) -> T:
        """Do what must be done as soon as the database can do it. Raises RecordsUnavailable once stopped."""
        while True:
            try:
                while self._uncertain:
                    run_id = self._uncertain.pop()
                    try:
                        self._store.discard(run_id)
                    except RecordsUnavailable:
                        self._uncertain.add(run_id)
                        raise
                return write()
            except RecordsUnavailable:
                if self._stopped.wait(INSIST_S):
                    raise


def _end(expected: _TrackedRun, result: object) -> RunEnd:
    if isinstance(result, dict):
        try:
            return expected.facts.ended(result)
        except ResultError as e:
            log.warning("a run was lost: %s", e, extra={"run_id": expected.facts.id})
    return expected.facts.failed(LOST, expected.started_at)

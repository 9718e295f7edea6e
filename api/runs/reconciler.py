"""Record the results of runs that no request waits for: background runs, and runs whose client left.

One thread receives the worker's messages about such runs, records them, and acknowledges every result once it is
recorded. A run that the worker should have and has not is over: it ends `error`. So do, at the start of this
process, the runs that an earlier one accepted and the worker does not know. A run that a worker has although it is
over is ended there (`api.runs.given_up`).

With several processes of one instance (`siblings`), or several instances on one database (`instances`), each of
them receives every result. One that another expects is left to that one, and acknowledged here only if it is
offered once more and is recorded by then. A run that looks like an earlier process's may be about to be dispatched
by another, so it is given up only if the worker still does not know it after a while.

Of several instances each takes over the runs of those whose lease has expired, in the database: every run by one of
them. Such an instance may live, and have lost its lease for a while only: each of its results is recorded once, by
the first of them.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from api.runs.document import RunRecord
from api.runs.given_up import end_given_up
from api.runs.tracked import INTERRUPTED, TrackedRun, end_of
from config.failpoints import failpoint
from dispatch import ClientGone, FeedItem, WorkerLost, WorkerUnavailable
from dispatch.interrupt import Interrupt
from records.errors import RecordsUnavailable
from records.runs import FIRST_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator

    from dispatch import Dispatcher
    from records.runs import Run, RunEnd, RunStore

log = logging.getLogger(__name__)
T = TypeVar("T")

RECONNECT_S = 0.1
RECONNECT_MOST_S = 1.0
#: After this many seconds without a worker, its runs are given up.
GONE_S = 10.0
#: Until then the worker has or has refused every run that another process accepted: a job is valid for ten seconds.
SETTLED_S = 15.0
#: Between looks for runs of instances that have died.
ADOPT_S = 2.0
#: Between tries to write down what must not be lost.
INSIST_S = 0.5
STOP_WITHIN_S = 10.0


class ResultReconciler:
    """Sees that every run under way comes to an end in the store. Safe from any thread."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        store: RunStore,
        *,
        keep_files_ms: int,
        siblings: bool = False,
        instances: bool = False,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_lost` is called when the worker has gone away."""
        self._on_lost = on_lost
        self._keep_files_ms = keep_files_ms
        self._siblings = siblings
        self._instances = instances
        self._dispatcher = dispatcher
        self._store = store
        self._expected: dict[str, TrackedRun] = {}
        #: Runs whose INSERT may have been committed although the call failed. They will be deleted.
        self._uncertain: set[str] = set()
        #: Runs of other processes that are expected here, some of which may be about to be dispatched.
        self._recovered: set[str] = set()
        #: Runs that this instance has taken over in the database and that are not expected here yet.
        self._adopted: set[str] = set()
        #: Runs whose results were left to other processes, since collecting began and in the collection before.
        self._left: set[str] = set()
        self._left_before: set[str] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        #: Ends the collection that is under way.
        self._interrupt: Interrupt | None = None
        self._collecting_since = 0.0

    def start(self) -> None:
        """Listen, after the runs of earlier processes were looked up. Without effect the second time."""
        with self._lock:
            if not self._threads:
                self._start_thread("collector", self._listen)

    def stop(self) -> None:
        """End the threads: each has recorded what it received, or leaves that to a later process.

        Waits a while for them. Without effect the second time.
        """
        with self._lock:
            threads = list(self._threads)
            self._stopped.set()
        self._collect_again()
        for thread in threads:
            thread.join(STOP_WITHIN_S)

    def track(self, facts: RunRecord) -> None:
        """Track a run that is about to be dispatched, so that a result for it is recorded."""
        self._expected[facts.id] = TrackedRun(facts)

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

    def _collect(self) -> Generator[FeedItem, None, None]:
        """Yield what the worker says. Raises ClientGone when this is to end, or to begin again."""
        with self._lock:
            if self._stopped.is_set():
                raise ClientGone
            self._interrupt = interrupt = Interrupt()
        self._collecting_since = time.monotonic()
        self._left_before, self._left = self._left, set()
        try:
            yield from self._dispatcher.collect(client_fd=interrupt.fd)
        finally:
            with self._lock:
                self._interrupt = None
            interrupt.close()

    def _collect_again(self) -> None:
        """End the collection that is under way: what was not acknowledged is offered once more."""
        with self._lock:
            if self._interrupt is not None:
                self._interrupt.set()

    def _listen(self) -> None:
        try:
            self._retry_until_stored(self._recover)
        except RecordsUnavailable:  # stopped
            return
        if self._siblings or self._instances:
            with self._lock:
                if not self._stopped.is_set():
                    self._start_thread("collector-again", self._look_after_others)
        pause_s = RECONNECT_S
        gone_at = time.monotonic()
        while not self._stopped.is_set():
            connected_at = time.monotonic()
            try:
                with closing(self._collect()) as items:
                    for told in items:
                        pause_s = RECONNECT_S
                        self._handle(told, connected_at)
            except ClientGone:
                gone_at = time.monotonic()
                continue
            except WorkerUnavailable:
                pass
            except RecordsUnavailable:  # stopped
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
        if self._instances:
            self._adopted.update(self._store.adopt())
        for run in self._store.unfinished():
            self._expect(run, is_settled=not self._siblings and run.id not in self._adopted)
        self._adopted.clear()

    def _expect(self, run: Run, *, is_settled: bool) -> None:
        """Expect a run of another process; unless `is_settled`, that one may be about to dispatch it."""
        if run.id in self._expected:
            return
        facts = RunRecord.recorded(run, self._request_bytes(run), self._keep_files_ms)
        handed_over_at = float("-inf") if is_settled else time.monotonic() + SETTLED_S
        self._expected[run.id] = TrackedRun(facts, INTERRUPTED, handed_over_at=handed_over_at)
        if not is_settled:
            self._recovered.add(run.id)

    def _request_bytes(self, run: Run) -> int:
        blob = self._store.request_blob(run.owner, run.id)
        return blob.size if blob is not None else len(self._store.request(run.owner, run.id) or b"")

    # -- the runs of other processes ---------------------------------------------------------------

    def _look_after_others(self) -> None:
        """Take over the runs of instances that have died; collect again what was left to others, now and then."""
        while not self._stopped.wait(min(ADOPT_S, SETTLED_S)):
            try:
                found_some = self._instances and self._adopt()
            except RecordsUnavailable:
                found_some = False
            except Exception:
                log.exception("taking over the runs of other instances failed; it is tried again")
                found_some = False
            self._recovered.intersection_update(list(self._expected))
            is_due = time.monotonic() - self._collecting_since > SETTLED_S
            if found_some or (is_due and (self._recovered or self._left or self._left_before)):
                self._collect_again()

    def _adopt(self) -> bool:
        """Take over the runs of instances whose lease has expired; whether there were any.

        Raises RecordsUnavailable.
        """
        self._adopted.update(self._store.adopt())
        if not self._adopted:
            return False
        log.warning("taking over the runs of another instance", extra={"runs": len(self._adopted)})
        for run in self._store.unfinished():
            if run.id in self._adopted:
                self._expect(run, is_settled=False)
        self._adopted.clear()
        return True

    # -- messages of the worker ----------------------------------------------------------------------

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
        started_at = str(info.get("at"))
        if expected.started_at == started_at:  # noted before: collected again
            return
        document = expected.facts.live("running", started_at)
        self._retry_until_stored(lambda: self._store.begin(expected.facts.id, FIRST_ATTEMPT, document))
        expected.started_at = started_at

    def _note_end(self, run_id: str, result: object) -> None:
        expected = self._expected.get(run_id)
        if expected is not None:
            end = end_of(expected, result)
            failpoint("ended")
            self._retry_until_stored(lambda: self._store.finish(run_id, FIRST_ATTEMPT, end))
            failpoint("recorded")
            self.untrack(run_id)
        elif (self._siblings or self._instances) and self._is_left(run_id):
            return
        self._dispatcher.acknowledge(run_id)

    def _is_live(self, run_id: str) -> bool:
        return self._retry_until_stored(lambda: self._store.is_live(run_id))

    def _is_left(self, run_id: str) -> bool:
        """Return whether the result is another process's: it is the first time that it is offered, or the run's end
        is not recorded yet.
        """
        was_left = run_id in self._left_before or run_id in self._left
        if was_left and not self._is_live(run_id):
            self._left.discard(run_id)
            return False
        self._left.add(run_id)
        return True

    def _fail_missing(self, known: Container[str], since: float) -> None:
        """End the runs that the worker had before `since` and has not now."""
        for run_id, expected in list(self._expected.items()):
            if expected.handed_over_at is None or expected.handed_over_at >= since or run_id in known:
                continue
            if self.end(expected.facts, expected.facts.failed(expected.error, expected.started_at)):
                log.warning("a run was lost with its worker", extra={"run_id": run_id})

    def end(self, facts: RunRecord, end: RunEnd) -> bool:
        """Record an end that the worker knows nothing of, however long that takes. For any thread.

        Returns whether it was not recorded before, by another process.
        """
        is_new = self._retry_until_stored(lambda: self._store.finish(facts.id, FIRST_ATTEMPT, end))
        if is_new:
            about = {"run_id": facts.id, "status": end.status, "exit_code": None, "signal": None}
            log.info("run ended", extra={**about, "language": facts.language})
        self.untrack(facts.id)
        return is_new

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

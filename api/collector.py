"""What becomes of runs that no connection waits for: those in the background, and those whose client left.

One thread listens to the worker, writes down what it says of such runs, and acknowledges every result once it is
recorded. A run that the worker should have and has not is over: it ends `error`.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.errors import ErrorObject, error_type
from api.runobject import ResultError, RunFacts
from dispatch import Collected, WorkerLost, WorkerUnavailable

if TYPE_CHECKING:
    from collections.abc import Container

    from dispatch import Dispatcher
    from records.store import RunRecord, RunStore

log = logging.getLogger(__name__)

LOST = ErrorObject(
    "The worker went away while this ran; its result is not known.", error_type(500), None, "worker_lost"
)
RECONNECT_S = 0.1
RECONNECT_MOST_S = 1.0
#: With no worker for so long, what it had is given up.
GONE_S = 10.0


@dataclass(slots=True)
class _Expected:
    """A run under way. From `sure_at` on (monotonic seconds) the worker has it and nobody here waits for it."""

    facts: RunFacts
    started_at: str | None = None
    sure_at: float | None = None


class Collector:
    """Sees that every run under way comes to an end in the store. Safe from any thread."""

    def __init__(self, dispatcher: Dispatcher, store: RunStore) -> None:
        self._dispatcher = dispatcher
        self._store = store
        self._expected: dict[str, _Expected] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def expect(self, facts: RunFacts) -> None:
        """A run is about to be given to the worker: a result that comes here is to be recorded."""
        with self._lock:
            self._expected[facts.id] = _Expected(facts)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="collector", daemon=True)
                self._thread.start()

    def drop(self, run_id: str) -> None:
        """A run has its end, by whoever waited for it."""
        self._expected.pop(run_id, None)

    def leave(self, run_id: str) -> None:
        """From now on nobody else sees to the run's end, and the worker is known to have it."""
        expected = self._expected.get(run_id)
        if expected is not None:
            expected.sure_at = time.monotonic()

    def _listen(self) -> None:
        pause_s = RECONNECT_S
        gone_at = time.monotonic()
        while True:
            connected_at = time.monotonic()
            try:
                for told in self._dispatcher.collect():
                    pause_s = RECONNECT_S
                    self._hear(told, connected_at)
            except WorkerUnavailable:
                pass
            except WorkerLost:
                gone_at = time.monotonic()
            except Exception:
                log.exception("collecting results failed")
                gone_at = time.monotonic()
            if time.monotonic() - gone_at > GONE_S:
                self._give_up_all_but((), time.monotonic())
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MOST_S)

    def _hear(self, told: Collected, connected_at: float) -> None:
        if told.kind == "runs":
            live = told.data.get("live")
            known = live if isinstance(live, dict) else {}
            self._give_up_all_but(known, connected_at)
            for info in known.values():
                self._note_status(info)
        elif told.kind == "status":
            self._note_status(told.data)
        else:
            self._note_end(str(told.data.get("run_id")), told.data.get("result"))

    def _note_status(self, info: dict[str, Any] | None) -> None:
        expected = self._expected.get(str(info.get("id"))) if info is not None else None
        if info is None or expected is None:
            return
        if info.get("status") == "queued":
            self._store.put(expected.facts.live("queued"))
        else:
            expected.started_at = str(info.get("at"))
            self._store.put(expected.facts.live("running", expected.started_at))

    def _note_end(self, run_id: str, result: object) -> None:
        expected = self._expected.get(run_id)
        if expected is not None:
            self._store.put(_record(expected, result))
            self.drop(run_id)
        self._dispatcher.acknowledge(run_id)

    def _give_up_all_but(self, known: Container[str], since: float) -> None:
        """End the runs that the worker had before `since` and has not now."""
        for run_id, expected in list(self._expected.items()):
            if expected.sure_at is not None and expected.sure_at < since and run_id not in known:
                log.warning("run %s: lost with its worker", run_id)
                self._store.put(expected.facts.failed(LOST, expected.started_at))
                self.drop(run_id)


def _record(expected: _Expected, result: object) -> RunRecord:
    if isinstance(result, dict):
        try:
            return expected.facts.ended(result)
        except ResultError as e:
            log.warning("run %s: %s", expected.facts.id, e)
    return expected.facts.failed(LOST, expected.started_at)

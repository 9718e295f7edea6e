"""How long things are kept, and the thread that sees to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread
from typing import Protocol

from records.errors import RecordsUnavailable

log = logging.getLogger(__name__)

_DAY_MS = 24 * 3600 * 1000
#: Rows of one transaction: some milliseconds, so that a run's own writes are hardly delayed.
BATCH = 200
#: Between two batches the other writers have the database to themselves.
PAUSE_S = 0.02
CHECKPOINT_S = 1.0
SWEEP_S = 60.0
STOP_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Ended runs are kept for so many days after their end, and at most so many of all owners together."""

    runs_days: float
    runs_count: int


class RetentionStore(Protocol):
    """Removes what has had its time, a batch in each call. Every call answers how many rows it removed, which is
    less than `batch` when nothing more is left for it. Raises RecordsUnavailable.
    """

    def sweep_runs(self, *, ended_before_ms: int, keep_at_most: int, batch: int = BATCH) -> int:
        """Ended runs that ended before that moment, or that are beyond the newest `keep_at_most` ended ones:
        the longest ended first, with their requests, events and artifacts. Live runs are never touched.
        """
        ...

    def expire_files(self, *, now_ms: int, batch: int = BATCH) -> int:
        """Files whose `expires_at_ms` has come."""
        ...

    def expire_idempotency(self, *, now_ms: int, batch: int = BATCH) -> int:
        """Idempotency keys that are no longer remembered."""
        ...

    def checkpoint(self) -> None:
        """Bring what SQLite has in its log to the disk, so that a power loss costs no more than what came since."""
        ...


def sweep(store: RetentionStore, policy: Policy, now_ms: int, stop: Event | None = None) -> int:
    """Remove everything that has had its time; how many rows. Raises RecordsUnavailable."""
    oldest_ms = now_ms - int(policy.runs_days * _DAY_MS)
    steps: tuple[Callable[[], int], ...] = (
        partial(store.sweep_runs, ended_before_ms=oldest_ms, keep_at_most=policy.runs_count),
        partial(store.expire_files, now_ms=now_ms),
        partial(store.expire_idempotency, now_ms=now_ms),
    )
    total = 0
    for step in steps:
        removed = BATCH
        while removed >= BATCH and not (stop is not None and stop.is_set()):
            removed = step()
            total += removed
            if removed:
                time.sleep(PAUSE_S)
    return total


class Retention:
    """A thread that sweeps every minute and checkpoints every second. To be started after a fork."""

    def __init__(self, store: RetentionStore, policy: Policy, *, sweep_s: float = SWEEP_S) -> None:
        self._store = store
        self._policy = policy
        self._sweep_s = sweep_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name="records-retention", daemon=True)

    def start(self) -> None:
        """Begin, with a sweep at once."""
        self._thread.start()

    def stop(self) -> None:
        """End within a bound; what is removed by then is."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        next_sweep = time.monotonic()
        while not self._stop.is_set():
            try:
                self._store.checkpoint()
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + self._sweep_s
                    removed = sweep(self._store, self._policy, time.time_ns() // 1_000_000, self._stop)
                    if removed:
                        log.info("retention removed %d rows", removed)
            except RecordsUnavailable:
                log.warning("retention has to wait for the database")
            except Exception:
                log.exception("retention failed; it goes on")
            self._stop.wait(CHECKPOINT_S)

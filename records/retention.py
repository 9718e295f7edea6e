"""The age and size limits of records and files, and the thread that enforces them."""

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
#: Keys that are looked at in one pass over those that keep more than they may.
MOST_KEYS = 100
#: Freed pages of 4 KiB that are returned in one transaction, and those that are kept for new rows.
SHRINK_PAGES, SPARE_PAGES = 512, 1024


def _no_bound(owner: str) -> int | None:  # noqa: ARG001
    return None


@dataclass(frozen=True, slots=True)
class Policy:
    """Ended runs are kept for so many days after their end, and at most so many of all owners together.

    `records_bytes` bounds what the runs of all keys take together, `key_bytes` returns the bound of one key, and
    `least_key_bytes` is the least of such bounds; None is no bound.
    """

    runs_days: float
    runs_count: int
    records_bytes: int | None = None
    least_key_bytes: int | None = None
    key_bytes: Callable[[str], int | None] = _no_bound


class RetentionStore(Protocol):
    """Removes what has had its time, a batch in each call. Every call answers how many rows it removed, which is
    less than `batch` when nothing more is left for it. Raises RecordsUnavailable.
    """

    def sweep_runs(self, *, ended_before_ms: int, keep_at_most: int, batch: int = BATCH) -> int:
        """Delete runs that ended before `ended_before_ms` or are not among the newest `keep_at_most` ended ones.

        The oldest are deleted first, with their requests, events and artifacts. Live runs are never deleted.
        """
        ...

    def sweep_sessions(self, *, ended_before_ms: int, batch: int = BATCH) -> int:
        """Remove sessions that ended before that moment; how many."""
        ...

    def sweep_key(self, owner: str, *, keep_bytes: int, batch: int = BATCH) -> int:
        """Delete ended runs of one key, the oldest first, until its records take at most `keep_bytes`."""
        ...

    def kept_bytes(self) -> int:
        """Return the bytes that the ended runs of all keys take."""
        ...

    def largest_keys(self, *, above: int, most: int) -> list[tuple[str, int]]:
        """Return the keys whose ended runs take the most, and more than `above` bytes, with those bytes."""
        ...

    def shrink(self, *, pages: int, spare_pages: int) -> int:
        """Return freed pages of SQLite's file to the file system, all but `spare_pages`. Returns their number."""
        ...

    def expire_files(self, *, now_ms: int, batch: int = BATCH) -> int:
        """Delete up to `batch` files whose `expires_at_ms` has passed."""
        ...

    def expire_idempotency(self, *, now_ms: int, batch: int = BATCH) -> int:
        """Delete up to `batch` expired idempotency keys."""
        ...

    def checkpoint(self) -> None:
        """Bring what SQLite has in its log to the disk, so that a power loss costs no more than what came since."""
        ...


def sweep(store: RetentionStore, policy: Policy, now_ms: int, stop: Event | None = None) -> int:
    """Remove everything that has had its time; how many rows. Raises RecordsUnavailable."""
    oldest_ms = now_ms - int(policy.runs_days * _DAY_MS)
    steps: tuple[Callable[[], int], ...] = (
        partial(store.sweep_runs, ended_before_ms=oldest_ms, keep_at_most=policy.runs_count),
        partial(store.sweep_sessions, ended_before_ms=oldest_ms),
        partial(store.expire_files, now_ms=now_ms),
        partial(store.expire_idempotency, now_ms=now_ms),
    )
    total = 0
    for step in steps:
        removed = BATCH
        while removed >= BATCH and not _is_set(stop):
            removed = step()
            total += removed
            if removed:
                time.sleep(PAUSE_S)
    return total


def sweep_bytes(store: RetentionStore, policy: Policy, stop: Event | None = None) -> int:
    """Remove the oldest ended runs of keys that keep more than they may; how many. Raises RecordsUnavailable."""
    total = 0
    if policy.least_key_bytes is not None:
        for owner, _ in store.largest_keys(above=policy.least_key_bytes, most=MOST_KEYS):
            bound = policy.key_bytes(owner)
            if bound is not None:
                total += _sweep_key(store, owner, bound, stop)
    if policy.records_bytes is not None:
        total += _sweep_all(store, policy.records_bytes, stop)
    return total


def _sweep_all(store: RetentionStore, bound: int, stop: Event | None) -> int:
    """Bring all keys together below the bound, at the cost of those that keep the most: no key can push out
    what another keeps that has less.
    """
    total = 0
    while (excess := store.kept_bytes() - bound) > 0 and not _is_set(stop):
        removed = 0
        largest = store.largest_keys(above=0, most=MOST_KEYS)
        for number, (owner, used) in enumerate(largest):
            # Down to the next one's size, and then both of them in turns.
            following = largest[number + 1][1] if number + 1 < len(largest) else 0
            keep = max(0, used - excess, min(following, used - 1))
            removed = store.sweep_key(owner, keep_bytes=keep)
            if removed:
                break  # else it has live runs only
        if not removed:
            break
        total += removed
        time.sleep(PAUSE_S)
    return total


def _sweep_key(store: RetentionStore, owner: str, keep_bytes: int, stop: Event | None) -> int:
    total, removed = 0, 1
    while removed and not _is_set(stop):
        removed = store.sweep_key(owner, keep_bytes=keep_bytes)
        total += removed
        if removed:
            time.sleep(PAUSE_S)
    return total


def _is_set(stop: Event | None) -> bool:
    return stop is not None and stop.is_set()


class Retention:
    """A thread: sweeps every minute, bounds bytes and checkpoints every second. To be started after a fork."""

    def __init__(self, store: RetentionStore, policy: Callable[[], Policy], *, sweep_s: float = SWEEP_S) -> None:
        """`policy` is called for each pass, because plans can change while the service runs."""
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
                policy = self._policy()
                removed = sweep_bytes(self._store, policy, self._stop)
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + self._sweep_s
                    removed += sweep(self._store, policy, time.time_ns() // 1_000_000, self._stop)
                if removed:
                    log.info("retention removed %d rows", removed)
                self._shrink()
            except RecordsUnavailable:
                log.warning("retention has to wait for the database")
            except Exception:
                log.exception("retention failed; the next pass tries again")
            self._stop.wait(CHECKPOINT_S)

    def _shrink(self) -> None:
        while not self._stop.is_set() and self._store.shrink(pages=SHRINK_PAGES, spare_pages=SPARE_PAGES):
            self._store.checkpoint()
            time.sleep(PAUSE_S)

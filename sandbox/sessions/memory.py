"""The memory that sessions are charged for: a part of what runs may use, lent to them.

A session is charged for its limit while its processes may run, and for what it holds while they are frozen. Before
a session, or a run, is refused for want of memory, idle sessions are frozen, the longest idle first.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from sandbox.admission.control import NO_BOUND, CancelledInQueue, KeyLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandbox.admission.control import Admission
    from sandbox.run.live import LiveRun

#: Seconds that a call which is no run waits for memory.
WAIT_S = 2.0
#: Seconds between two looks for memory: the end of a run is not reported here.
LOOK_S = 0.05


class NoMemory(Exception):
    """There is no memory for the session now."""


class SessionMemory:
    """The memory that all sessions of a worker are charged for together. Safe from any thread."""

    def __init__(self, admission: Admission, most_mb: int) -> None:
        self._admission = admission
        self._most_mb = most_mb
        self._used_mb = 0
        self._lock = threading.Lock()
        #: The idle sessions, the longest idle first, each as what freezes it.
        self.idle: Callable[[], Iterable[Callable[[], bool]]] = tuple
        admission.idle_sessions = lambda: self.idle()  # noqa: PLW0108  # it is set later

    @property
    def most_mb(self) -> int:
        """Return what sessions may be charged for together."""
        return self._most_mb

    @property
    def used_mb(self) -> int:
        """Return what sessions are charged for now."""
        return self._used_mb

    def take(self, memory_mb: int, wait_s: float = WAIT_S) -> None:
        """Take memory, after freezing idle sessions and waiting if need be. Raises NoMemory."""
        if not self._until(lambda: self._take_now(memory_mb), wait_s):
            raise NoMemory

    def take_in_turn(
        self, key: str, memory_mb: int, live: LiveRun, wait_s: float, share: KeyLimit = NO_BOUND
    ) -> None:
        """Take memory for a run, which waits among all runs if need be.

        Raises NoMemory, and what `Admission.reserve` and `Admission.wait` do.
        """
        if self._until(lambda: self._take_now(memory_mb), 0):
            return

        def count() -> bool:
            live.look()
            if live.stop is not None:
                raise CancelledInQueue
            return self._count(memory_mb)

        if not self._until(count, wait_s):
            raise NoMemory
        try:
            place = self._admission.reserve(key, memory_mb, share)
            try:
                if not place.held:
                    self._admission.wait(place, live)
            except BaseException:
                self._admission.release(place)
                raise
            self._admission.keep_memory(place)
        except BaseException:
            self._uncount(memory_mb)
            raise

    def give(self, memory_mb: int) -> None:
        """Give memory back."""
        self._uncount(memory_mb)
        self._admission.take_back(memory_mb)

    def _until(self, take: Callable[[], bool], wait_s: float) -> bool:
        """Call `take` until it returns True, for that time, freezing idle sessions. Returns False if it did not."""
        deadline = time.monotonic() + wait_s
        while True:
            if take():
                return True
            for freeze in self.idle():
                if freeze() and take():
                    return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S)

    def _take_now(self, memory_mb: int) -> bool:
        if not self._count(memory_mb):
            return False
        if self._admission.lend(memory_mb):
            return True
        self._uncount(memory_mb)
        return False

    def _count(self, memory_mb: int) -> bool:
        with self._lock:
            if self._used_mb + memory_mb > self._most_mb:
                return False
            self._used_mb += memory_mb
            return True

    def _uncount(self, memory_mb: int) -> None:
        with self._lock:
            self._used_mb -= memory_mb

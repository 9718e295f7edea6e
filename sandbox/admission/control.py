"""Admission control of one worker: which runs hold a place and memory, and which wait in the queue.

`sandbox.admission.fair_queue` decides which run gets a place. A key's plan may set a share as well: a number of
concurrent runs and a number of waiting runs. A key at its number of concurrent runs is passed over until one of
them ends; other keys do not wait for it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sandbox.admission.fair_queue import AdmissionError, BeyondShare, FairQueue, KeyLimitReached, Overloaded
from sandbox.admission.reservation import Reservation
from sandbox.run.live import LiveRun

__all__ = [
    "Admission",
    "AdmissionError",
    "BeyondShare",
    "CancelledInQueue",
    "KeyLimit",
    "KeyLimitReached",
    "Load",
    "Overloaded",
    "Reservation",
]

#: Seconds between two checks of a waiting run's position: with a listener, and without one.
TICK_LISTENED_S = 1.0
TICK_S = 5.0
#: A run that was passed over for this part of QUEUE_WAIT_S has general memory kept for it.
PATIENCE_PART = 6
#: The most bytes of code and files of all present jobs, and of those of one key.
JOBS_BYTES = 256 * 1024 * 1024
JOBS_SHARE_BYTES = 64 * 1024 * 1024


class CancelledInQueue(AdmissionError):
    """The run was ended while it waited."""


@dataclass(frozen=True, slots=True)
class KeyLimit:
    """The bounds of one key's plan on concurrent and waiting runs; None means no bound of its own."""

    running: int | None = None
    waiting: int | None = None


NO_BOUND = KeyLimit()


@dataclass(frozen=True, slots=True)
class Load:
    """The number of running and of waiting runs, and the sum of the running ones' memory limits."""

    running: int
    waiting: int
    memory_mb: int


class Admission:
    """The places of one worker."""

    def __init__(
        self,
        *,
        max_runs: int,
        memory_mb: int,
        queue_max: int,
        queue_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = FairQueue(
            places=max_runs, memory_mb=memory_mb, queue=queue_max, patience_s=queue_wait_s / PATIENCE_PART
        )
        #: Bytes of the jobs of each key, running and waiting.
        self._sizes: Counter[str] = Counter()
        self._queue_wait_s = queue_wait_s
        self._clock = clock
        self._lock = threading.Lock()
        #: The idle sessions, the longest idle first, each as what freezes it and says whether it did: they then
        #: hold less memory.
        self.idle_sessions: Callable[[], Iterable[Callable[[], bool]]] = tuple

    def reserve(self, key: str, memory_mb: int, share: KeyLimit = NO_BOUND, *, size: int = 0) -> Reservation:
        """Reserve a place, or one in the queue for it; end it by `release`. The job brings `size` bytes.

        Idle sessions are frozen before a run is refused or has to wait for memory. Raises Overloaded when the queue
        is full, KeyLimitReached when the key's part of it is.
        """
        try:
            place = self._enter(key, memory_mb, share, size)
        except (Overloaded, BeyondShare):
            if not self.lacks_memory() or not sum(freeze() for freeze in self.idle_sessions()):
                raise
            place = self._enter(key, memory_mb, share, size)
        if not place.held and self.lacks_memory():
            self._freeze_until(place)
        return place

    def _freeze_until(self, place: Reservation) -> None:
        for freeze in self.idle_sessions():
            if place.held:
                return
            freeze()

    def lacks_memory(self) -> bool:
        """Return whether runs wait although there are places for them."""
        with self._lock:
            return self._queue.waiting > 0 and self._queue.running < self._queue.most

    def _enter(self, key: str, memory_mb: int, share: KeyLimit, size: int) -> Reservation:
        with self._lock:
            now = self._clock()
            if size:
                self._check_size(key, size)
            place = Reservation(key, memory_mb, now + self._queue_wait_s, share.running)
            evicted = self._queue.enter(place, now, share.waiting)
            if evicted is not None:
                os.eventfd_write(evicted.wake_fd, 1)
            if not place.held:
                try:
                    place.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                except OSError:  # no descriptor is left: the reservation could not be waited for
                    self._queue.leave(place, now)
                    raise
            if size:
                place.size = size
                self._sizes[key] += size
        return place

    def _check_size(self, key: str, size: int) -> None:
        if self._sizes[key] + size > JOBS_SHARE_BYTES:
            raise BeyondShare
        if self._sizes.total() + size > JOBS_BYTES:
            raise Overloaded("the jobs that are here hold all the memory that they may")

    def wait(self, place: Reservation, live: LiveRun) -> None:
        """Wait until the place is held; `live` reports its position meanwhile.

        Raises Overloaded, CancelledInQueue, and BeyondShare when it was evicted for a key that holds less.
        """
        said_position = self._say_position(place, live, 0)
        while not place.held:
            if live.stop is not None:
                raise CancelledInQueue
            if place.evicted:
                raise BeyondShare
            left_s = place.deadline - self._clock()
            if left_s <= 0:
                raise Overloaded("no place became free in time")
            poller = select.poll()
            poller.register(place.wake_fd, select.POLLIN)
            live.register(poller)
            happened = poller.poll(min(left_s, TICK_LISTENED_S if live.has_listeners else TICK_S) * 1000 + 0.5)
            for fd, event in happened:
                live.handle_event(fd, event)
            if not happened:
                said_position = self._say_position(place, live, said_position)
                live.tick()
        live.look()  # a place that became free because api died is not for another run that api waited for
        if live.stop is not None:
            raise CancelledInQueue

    def release(self, place: Reservation) -> None:
        """Release the place, held or not; a place granted in this moment passes to the next run."""
        with self._lock:
            if place.size:
                self._sizes[place.key] -= place.size
                place.size = 0
                if not self._sizes[place.key]:
                    del self._sizes[place.key]
            for admitted in self._queue.leave(place, self._clock()):
                os.eventfd_write(admitted.wake_fd, 1)
            if place.wake_fd >= 0:
                os.close(place.wake_fd)

    def lend(self, memory_mb: int) -> bool:
        """Take memory for a session, which holds no place. Returns False if not so much is free now."""
        with self._lock:
            return self._queue.lend(memory_mb)

    def keep_memory(self, place: Reservation) -> None:
        """Give a held place back, but not its memory: that is a session's from now on, as if `lend` had lent it."""
        with self._lock:
            for admitted in self._queue.keep_memory(place, self._clock()):
                os.eventfd_write(admitted.wake_fd, 1)
            if place.wake_fd >= 0:
                os.close(place.wake_fd)

    def take_back(self, memory_mb: int) -> None:
        """Release the memory of a session that has ended."""
        with self._lock:
            for admitted in self._queue.take_back(memory_mb, self._clock()):
                os.eventfd_write(admitted.wake_fd, 1)

    def position(self, place: Reservation) -> int:
        """Return the run's position in the order of admission, counted from 1; 0 once it holds its place."""
        with self._lock:
            return self._queue.position(place)

    def load(self) -> Load:
        """Return the present load."""
        with self._lock:
            return Load(self._queue.running, self._queue.waiting, self._queue.used_mb)

    def _say_position(self, place: Reservation, live: LiveRun, said: int) -> int:
        position = self.position(place)
        if position not in (0, said):
            live.status("queued", position=position)
        return position

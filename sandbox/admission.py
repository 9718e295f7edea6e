"""Who may run now and who waits: a ceiling on runs and on the sum of their memory, a bounded fair queue.

Fair between keys: places go round the keys that wait, one run each, so that a key with fifty waiting runs
delays another's first by at most one round. Within a key the order is that of arrival. A run too large for
the memory that is free holds up those behind it rather than being passed by for ever.

A key may have a share: so many runs at the same time, and so many that wait. One that has its runs at a time is
passed by until one of them ends; nobody else waits for it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from sandbox.live import LiveRun

#: How often a waiting run looks at its position: while somebody hears it, and otherwise.
TICK_HEARD_S = 1.0
TICK_S = 5.0


class AdmissionError(Exception):
    """The base of why a run got no place."""


class Overloaded(AdmissionError):
    """The queue is full, or the run has waited as long as one may."""


class ShareUsed(AdmissionError):
    """The key has all the runs that it may have, running and waiting."""


class LeftQueue(AdmissionError):
    """The run was ended while it waited."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one key may have of the places and of the queue; None is no bound but everybody's."""

    running: int | None = None
    waiting: int | None = None


NO_BOUND = Share()


@dataclass(frozen=True, slots=True)
class Load:
    """How many runs hold a place, how many wait, and the sum of the former's memory limits."""

    running: int
    waiting: int
    memory_mb: int


class Place:
    """A run's place: held already, or waited for."""

    __slots__ = ("deadline", "held", "key", "memory_mb", "most_running", "wake_fd")

    def __init__(self, key: str, memory_mb: int, deadline: float, most_running: int | None = None) -> None:
        self.key = key
        self.memory_mb = memory_mb
        self.most_running = most_running
        self.held = False
        self.deadline = deadline
        self.wake_fd = -1


class Admission:
    """The places of one worker."""

    def __init__(self, *, max_runs: int, memory_mb: int, queue_max: int, queue_wait_s: float) -> None:
        self._max_runs = max_runs
        self._memory_mb = memory_mb
        self._queue_max = queue_max
        self._queue_wait_s = queue_wait_s
        self._lock = threading.Lock()
        self._running = 0
        self._used_mb = 0
        self._running_of: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[Place]] = OrderedDict()
        self._waiting_count = 0

    def enter(self, key: str, memory_mb: int, share: Share = NO_BOUND) -> Place:
        """A place, or one in the queue for it; give it back by `leave`.

        Raises Overloaded when that is full, ShareUsed when the key's part of it is.
        """
        place = Place(key, memory_mb, time.monotonic() + self._queue_wait_s, share.running)
        with self._lock:
            if self._next() is None and not self._waiting.get(key) and self._may_run(place):
                self._occupy(place)
                return place
            if share.waiting is not None and len(self._waiting.get(key, ())) >= share.waiting:
                raise ShareUsed
            if self._waiting_count >= self._queue_max:
                raise Overloaded("the queue is full")
            place.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._waiting.setdefault(key, deque()).append(place)
            self._waiting_count += 1
        return place

    def wait(self, place: Place, live: LiveRun) -> None:
        """Wait until the place is held; `live` says its position meanwhile. Raises Overloaded, LeftQueue."""
        said_position = self._say_position(place, live, 0)
        while not place.held:
            if live.stop is not None:
                raise LeftQueue
            left_s = place.deadline - time.monotonic()
            if left_s <= 0:
                raise Overloaded("no place became free in time")
            poller = select.poll()
            poller.register(place.wake_fd, select.POLLIN)
            live.register(poller)
            happened = poller.poll(min(left_s, TICK_HEARD_S if live.is_heard else TICK_S) * 1000 + 0.5)
            for fd, event in happened:
                live.attend(fd, event)
            if not happened:
                said_position = self._say_position(place, live, said_position)
                live.tick()

    def leave(self, place: Place) -> None:
        """Give the place back, held or not; a place given in this moment goes on to the next."""
        with self._lock:
            if place.held:
                self._running -= 1
                self._used_mb -= place.memory_mb
                self._running_of[place.key] -= 1
                if not self._running_of[place.key]:
                    del self._running_of[place.key]
            else:
                queue = self._waiting[place.key]
                queue.remove(place)
                self._waiting_count -= 1
                if not queue:
                    del self._waiting[place.key]
            self._admit_next()
            if place.wake_fd >= 0:
                os.close(place.wake_fd)

    def position(self, place: Place) -> int:
        """How many runs will be admitted up to and with this one, if no other comes; 0 once it is held."""
        with self._lock:
            if place.held:
                return 0
            own = self._waiting[place.key].index(place)
            ahead, before = own, True
            for key, queue in self._waiting.items():
                if key == place.key:
                    before = False
                else:
                    ahead += min(len(queue), own + before)
            return ahead + 1

    def _say_position(self, place: Place, live: LiveRun, said: int) -> int:
        position = self.position(place)
        if position not in (0, said):
            live.status("queued", position=position)
        return position

    def load(self) -> Load:
        """A look at the queue."""
        with self._lock:
            return Load(self._running, self._waiting_count, self._used_mb)

    def _fits(self, memory_mb: int) -> bool:
        # A run larger than the whole budget may run alone: it has passed the ceiling of its own limit.
        alone = self._running == 0
        return self._running < self._max_runs and (alone or self._used_mb + memory_mb <= self._memory_mb)

    def _occupy(self, place: Place) -> None:
        self._running += 1
        self._used_mb += place.memory_mb
        self._running_of[place.key] += 1
        place.held = True

    def _may_run(self, place: Place) -> bool:
        return self._within_share(place) and self._fits(place.memory_mb)

    def _within_share(self, place: Place) -> bool:
        return place.most_running is None or self._running_of[place.key] < place.most_running

    def _next(self) -> Place | None:
        """The run that is to have the next place that it fits: the first of those whose key may have one more."""
        return next((queue[0] for queue in self._waiting.values() if self._within_share(queue[0])), None)

    def _admit_next(self) -> None:
        while (place := self._next()) is not None:
            if not self._fits(place.memory_mb):
                return
            key, queue = place.key, self._waiting[place.key]
            queue.popleft()
            self._waiting_count -= 1
            if queue:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            self._occupy(place)
            os.eventfd_write(place.wake_fd, 1)

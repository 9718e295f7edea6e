"""Who may run now and who waits: a ceiling on runs and on the sum of their memory, a bounded fair queue.

Fair between keys: places go round the keys that wait, one run each, so that a key with fifty waiting runs
delays another's first by at most one round. Within a key the order is that of arrival. A run too large for
the memory that is free holds up those behind it rather than being passed by for ever.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class AdmissionError(Exception):
    """The base of why a run got no place."""


class Overloaded(AdmissionError):
    """The queue is full, or the run has waited as long as one may."""


class LeftQueue(AdmissionError):
    """Whoever waited for the run has gone."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many runs hold a place, how many wait, and the sum of the former's memory limits."""

    running: int
    waiting: int
    memory_mb: int


class _Waiter:
    __slots__ = ("admitted", "memory_mb", "wake_fd")

    def __init__(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self.admitted = False
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


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
        self._waiting: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        self._waiting_count = 0

    @contextmanager
    def place(self, key: str, memory_mb: int, client_fd: int | None = None) -> Iterator[None]:
        """Hold a place for the time of a run, waiting for one if need be.

        Raises Overloaded, or LeftQueue when the peer of `client_fd` goes away meanwhile.
        """
        self._enter(key, memory_mb, client_fd)
        try:
            yield
        finally:
            self._leave(memory_mb)

    def load(self) -> Load:
        """A look at the queue."""
        with self._lock:
            return Load(self._running, self._waiting_count, self._used_mb)

    def must_wait(self, memory_mb: int) -> bool:
        """Whether a run of that size would have to wait just now."""
        with self._lock:
            return bool(self._waiting) or not self._fits(memory_mb)

    def _fits(self, memory_mb: int) -> bool:
        # A run larger than the whole budget may run alone: it has passed the ceiling of its own limit.
        alone = self._running == 0
        return self._running < self._max_runs and (alone or self._used_mb + memory_mb <= self._memory_mb)

    def _occupy(self, memory_mb: int) -> None:
        self._running += 1
        self._used_mb += memory_mb

    def _enter(self, key: str, memory_mb: int, client_fd: int | None) -> None:
        with self._lock:
            if not self._waiting and self._fits(memory_mb):
                self._occupy(memory_mb)
                return
            if self._waiting_count >= self._queue_max:
                raise Overloaded("the queue is full")
            waiter = _Waiter(memory_mb)
            self._waiting.setdefault(key, deque()).append(waiter)
            self._waiting_count += 1
        try:
            self._wait(waiter, client_fd)
        except AdmissionError:
            self._give_up(key, waiter)
            raise
        finally:
            os.close(waiter.wake_fd)

    def _wait(self, waiter: _Waiter, client_fd: int | None) -> None:
        deadline = time.monotonic() + self._queue_wait_s
        poller = select.poll()
        poller.register(waiter.wake_fd, select.POLLIN)
        if client_fd is not None:
            poller.register(client_fd, select.POLLRDHUP)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Overloaded("no place became free in time")
            for fd, _ in poller.poll(left_s * 1000 + 0.5):
                if fd != waiter.wake_fd:
                    raise LeftQueue
                return

    def _give_up(self, key: str, waiter: _Waiter) -> None:
        """Leave the queue; a place given in the same moment goes on to the next."""
        with self._lock:
            if waiter.admitted:
                self._running -= 1
                self._used_mb -= waiter.memory_mb
            else:
                self._waiting[key].remove(waiter)
                self._waiting_count -= 1
                if not self._waiting[key]:
                    del self._waiting[key]
            self._admit_next()

    def _leave(self, memory_mb: int) -> None:
        with self._lock:
            self._running -= 1
            self._used_mb -= memory_mb
            self._admit_next()

    def _admit_next(self) -> None:
        while self._waiting:
            key, queue = next(iter(self._waiting.items()))
            waiter = queue[0]
            if not self._fits(waiter.memory_mb):
                return
            queue.popleft()
            self._waiting_count -= 1
            if queue:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            self._occupy(waiter.memory_mb)
            waiter.admitted = True
            os.eventfd_write(waiter.wake_fd, 1)

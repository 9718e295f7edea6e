"""Threads that wait for the next connection after the one that they have served.

A run through the broker has a connection of its own. To make a thread takes longer than to wake one, and the thread
that asks for it has to wait until it runs.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: Threads that wait; more end with their work.
MOST_WAITING = 32


class ReadyThreads:
    """Does work on a thread that waits, or on a new one: `start` never waits for a thread to be free."""

    def __init__(self) -> None:
        self._change = threading.Lock()
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        #: Threads that wait, without those for which there is work in the queue.
        self._waiting = 0

    def start(self, work: Callable[[], None]) -> None:
        """Have something done by another thread. Safe for many threads. Raises RuntimeError if none can be made."""
        with self._change:
            is_there = self._waiting > 0
            if is_there:
                self._waiting -= 1
                self._work.put(work)
        if not is_there:
            threading.Thread(target=self._serve, args=(work,), daemon=True).start()

    def _serve(self, work: Callable[[], None]) -> None:
        while True:
            try:
                work()
            except Exception:
                log.exception("a thread's work failed")
            with self._change:
                if self._waiting >= MOST_WAITING:
                    return
                self._waiting += 1
            work = self._work.get()

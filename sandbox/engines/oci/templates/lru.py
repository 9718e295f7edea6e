"""Bound the number of owners with templates of their own; the least recently used is evicted."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock


class OwnerLru:
    """Owners by their last use. Safe to use from several threads."""

    def __init__(self, most: int, *, unused_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep at most `most` entries, and none that has not been used for `unused_s` seconds."""
        self._most = most
        self._unused_s = unused_s
        self._clock = clock
        self._used: dict[str, float] = {}
        self._lock = Lock()

    def use(self, owner: str) -> list[str]:
        """Record a use by an owner. Returns the owners whose entries must be given up."""
        now = self._clock()
        with self._lock:
            self._used.pop(owner, None)
            self._used[owner] = now  # the latest comes last
            too_many = len(self._used) - self._most
            leaving = [
                name
                for place, (name, at) in enumerate(self._used.items())
                if place < too_many or now - at > self._unused_s
            ]
            for name in leaving:
                del self._used[name]
        return leaving

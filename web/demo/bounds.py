"""The bounds of what browsers may ask for: a rate by address, and places at a time. Safe from any thread."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

#: Addresses that are remembered; beyond it the one that asked longest ago is forgotten, with a full bucket.
MAX_ADDRESSES = 10_000


class Rate:
    """A token bucket for each address: `per_minute` tokens, refilled evenly."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = per_minute
        self._per_second = per_minute / 60
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> int:
        """Take a token. Returns 0, or the whole seconds until there is one."""
        with self._lock:
            now = self._clock()
            tokens, at = self._buckets.pop(address, (float(self._burst), now))
            tokens = min(self._burst, tokens + (now - at) * self._per_second)
            wait_s = 0 if tokens >= 1 else math.ceil((1 - tokens) / self._per_second)
            self._buckets[address] = (tokens if wait_s else tokens - 1, now)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
            return wait_s


class Places:
    """A number of places, of which one address may hold a part."""

    def __init__(self, places: int, each: int) -> None:
        self._places = places
        self._each = each
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    def take(self, address: str, *, is_shared: bool = False) -> bool:
        """Take a place, and return whether there was one. An address that many share may hold all of them."""
        with self._lock:
            if self._held.total() >= self._places or (not is_shared and self._held[address] >= self._each):
                return False
            self._held[address] += 1
            return True

    def free(self, address: str) -> None:
        """Release a place."""
        with self._lock:
            self._held[address] -= 1
            if self._held[address] <= 0:
                del self._held[address]

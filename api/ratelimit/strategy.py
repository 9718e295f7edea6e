"""The token bucket as a strategy on the storages of `limits`, which has none of its own.

It is GCRA: one number a bucket, exact, no timer. `full_at` is when the bucket would be full again. A request moves
it by the refill time of its tokens, and is allowed if the bucket still held them.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Protocol, cast

from limits.storage import MemoryStorage
from limits.strategies import RateLimiter
from limits.util import WindowStats

from api.ratelimit.bucket import Bucket, Decision

if TYPE_CHECKING:
    from collections.abc import Callable

    from limits import RateLimitItem
    from limits.storage import Storage

#: The sums of floats must not refuse a token that was just refilled.
TOLERANCE_S = 1e-9
#: Buckets kept in memory before those that are full again are looked for.
SWEEP_AT = 1024


class TokenBucketSupport(Protocol):
    """Operations that a storage needs in addition to those of `limits`."""

    def take_tokens(self, key: str, rate: float, burst: int, cost: int) -> tuple[bool, float, float]:
        """Take `cost` tokens if there are so many: whether there were, in how many seconds the bucket is full
        again, and in how many there will be so many. One atomic step. Raises limits.errors.StorageError.
        """
        ...

    def full_in(self, key: str) -> float:
        """Return the seconds until the bucket is full, 0 if it is. Raises limits.errors.StorageError."""
        ...


class TokenBucketRateLimiter(RateLimiter):
    """The strategy, in the shape of those of `limits`; its items are `Bucket`s."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._buckets = cast("TokenBucketSupport", storage)

    def spend(self, bucket: Bucket, *identifiers: str, cost: int = 1) -> Decision:
        """Take tokens if the bucket holds as many, and return its state."""
        key = bucket.key_for(*identifiers)
        allowed, full_in_s, wait_s = self._buckets.take_tokens(key, bucket.rate, bucket.burst, cost)
        return Decision.of(bucket, allowed=allowed, full_in_s=full_in_s, wait_s=wait_s)

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """See `RateLimiter.hit`."""
        return self.spend(_bucket(item), *identifiers, cost=cost).allowed

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """See `RateLimiter.test`."""
        return self.get_window_stats(item, *identifiers).remaining >= cost

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """Return the time at which the bucket will be full, and its tokens now."""
        bucket = _bucket(item)
        full_in_s = self._buckets.full_in(bucket.key_for(*identifiers))
        stands = Decision.of(bucket, allowed=True, full_in_s=full_in_s, wait_s=0)
        return WindowStats(time.time() + full_in_s, stands.remaining)


class MemoryTokenBuckets(MemoryStorage):
    """`limits`' memory storage with token buckets, for one process. To be made after a fork: it starts a thread.

    The storage's own way of expiring keys starts a thread for a hundredth of a second whenever one is used; buckets
    are many and short, so those that are full again go when their number has doubled.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._sweep_at = SWEEP_AT
        self._lock = Lock()

    def take_tokens(self, key: str, rate: float, burst: int, cost: int) -> tuple[bool, float, float]:
        """See `TokenBucketSupport`."""
        with self._lock:
            now = self._clock()
            full_at = max(self._full_at.get(key, now), now)
            after = full_at + cost / rate
            wait_s = after - burst / rate - now
            allowed = wait_s <= TOLERANCE_S
            if allowed:
                self._full_at[key] = full_at = after
                if len(self._full_at) >= self._sweep_at:
                    self._sweep(now)
        return allowed, full_at - now, max(0.0, wait_s)

    def full_in(self, key: str) -> float:
        """See `TokenBucketSupport`."""
        return max(0.0, self._full_at.get(key, 0.0) - self._clock())

    def clear(self, key: str) -> None:
        """Fill the bucket, or reset the window."""
        self._full_at.pop(key, None)
        super().clear(key)

    def reset(self) -> int | None:
        """Fill every bucket."""
        self._full_at.clear()
        return super().reset()

    @property
    def buckets(self) -> int:
        """Return how many buckets are in memory."""
        return len(self._full_at)

    def _sweep(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        self._sweep_at = max(SWEEP_AT, 2 * len(self._full_at))


def _bucket(item: RateLimitItem) -> Bucket:
    if not isinstance(item, Bucket):
        raise TypeError("a token bucket's item is a Bucket")
    return item

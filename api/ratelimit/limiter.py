"""The buckets of this service: of keys, of addresses, and of making keys.

They are kept in this process, or with `RATELIMIT_URL` in Redis, where all processes share them. While Redis cannot
be reached each process uses its own buckets: a key then has its rate in every process instead of in all of them
together. The alternatives are worse: to reject every request would turn an outage of Redis into one of the service,
and to accept every request would remove all limits for anybody who can disturb Redis. Quotas are kept in the
database and stay exact.
"""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from limits import RateLimitItemPerHour
from limits.errors import StorageError
from limits.strategies import MovingWindowRateLimiter

from api.ratelimit.bucket import Bucket, Decision
from api.ratelimit.client_address import limited_as
from api.ratelimit.strategy import MemoryTokenBuckets, TokenBucketRateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from limits.storage import Storage

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Reading has a bucket of its own, so many times as wide.
READ_FACTOR = 10
#: Seconds without a request to Redis after it did not answer.
BACKEND_RETRY_S = 1.0


class _Backend:
    """Both strategies on one storage."""

    def __init__(self, storage: Storage) -> None:
        self.buckets = TokenBucketRateLimiter(storage)
        self.windows = MovingWindowRateLimiter(storage)


class Limiter:
    """Takes tokens. Safe for many threads; to be made after a fork."""

    def __init__(self, *, url: str | None = None, anonymous: Bucket, keys_an_hour: int) -> None:
        self._own = _Backend(MemoryTokenBuckets())
        self._shared = None if url is None else _Backend(_redis(url))
        self._away_until: float | None = None
        self._anonymous = anonymous
        self._anonymous_reads = anonymous.widened(READ_FACTOR)
        self._new_keys = RateLimitItemPerHour(keys_an_hour, namespace="new-keys")
        self._lock = Lock()
        self._window_lock = Lock()

    def spend(self, caller_id: str, bucket: Bucket, *, reading: bool) -> Decision:
        """Take a token from a key's bucket; its two buckets differ in their names and widths."""
        kind = "read" if reading else "run"
        return self._asked(lambda kept: kept.buckets.spend(bucket, kind, caller_id))

    def anonymous(self, address: str, *, reading: bool = False) -> Decision:
        """Take a token from an address's bucket, for requests without a valid token."""
        bucket, kind = (self._anonymous_reads, "look") if reading else (self._anonymous, "refused")
        name = limited_as(address)
        return self._asked(lambda kept: kept.buckets.spend(bucket, kind, name))

    def may_ask(self, address: str) -> bool:
        """Return whether the address has a token left for requests with a wrong token. None is taken."""
        name = limited_as(address)
        return self._asked(lambda kept: kept.buckets.test(self._anonymous, "refused", name))

    def new_key(self, address: str) -> Decision:
        """Take one of the keys that an address may create in an hour. This is exact: a window, not a bucket."""
        name = limited_as(address)

        def ask(kept: _Backend) -> Decision:
            with self._window_lock:  # the library's own locks are dropped with what they guard
                allowed = kept.windows.hit(self._new_keys, name)
                reset_at, remaining = kept.windows.get_window_stats(self._new_keys, name)
            reset_s = max(0.0, reset_at - time.time())
            return Decision(allowed, self._new_keys.amount, remaining, reset_s, 0.0 if allowed else reset_s)

        return self._asked(ask)

    def _asked(self, ask: Callable[[_Backend], T]) -> T:
        """Return the answer of Redis, or of this process while Redis is unreachable or not configured."""
        if self._shared is not None and self._may_try():
            try:
                answer = ask(self._shared)
            except StorageError as e:
                self._lost(e)
            else:
                self._found()
                return answer
        return ask(self._own)

    def _may_try(self) -> bool:
        """Return whether to ask Redis: always while it answers, and once a second while it does not."""
        if self._away_until is None:
            return True
        with self._lock:
            now = time.monotonic()
            if self._away_until is not None and now < self._away_until:
                return False
            self._away_until = now + BACKEND_RETRY_S
            return True

    def _lost(self, e: StorageError) -> None:
        with self._lock:
            known = self._away_until is not None
            self._away_until = time.monotonic() + BACKEND_RETRY_S
        if not known:
            log.warning(
                "RATELIMIT_URL cannot be reached: this process limits by itself", extra={"cause": repr(e.__cause__)}
            )

    def _found(self) -> None:
        if self._away_until is not None:
            self._away_until = None
            log.warning("RATELIMIT_URL can be reached again")


def _redis(url: str) -> Storage:
    from api.ratelimit.redis import RedisTokenBuckets  # only who uses Redis pays for its client

    return RedisTokenBuckets(url)

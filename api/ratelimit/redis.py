"""Buckets in Redis or Valkey, for several processes of api: what `strategy.py` reckons, in one atomic script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limits.errors import StorageError
from limits.storage import RedisStorage

if TYPE_CHECKING:
    from collections.abc import Callable

#: A server that does not answer at once counts as unreachable: a request must not wait for its limiter.
TIMEOUT_S = 0.25
PREFIX = "runyard"
#: Microseconds throughout: the server's own clock, so that processes on several machines agree. A bucket's key
#: expires when it is full. A clock that was set back fills no bucket later than an empty one would be full.
_TAKE = """
local now
if ARGV[4] == '' then
  local at = redis.call('TIME')
  now = at[1] * 1000000 + at[2]
else
  now = tonumber(ARGV[4])
end
local rate, burst, cost = ARGV[1] / 1000000, tonumber(ARGV[2]), tonumber(ARGV[3])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
full_at = math.min(full_at, now + burst / rate)
local after = full_at + cost / rate
local wait = after - burst / rate - now
local allowed = 0
if wait <= 1 then
  allowed = 1
  full_at = after
  local lives = math.max(1, math.ceil((full_at - now) / 1000))
  redis.call('SET', KEYS[1], string.format('%.17g', full_at), 'PX', string.format('%.0f', lives))
end
return {allowed, string.format('%.17g', full_at - now), string.format('%.17g', wait)}
"""
_FULL_IN = """
local at = redis.call('TIME')
local full_at = tonumber(redis.call('GET', KEYS[1]) or '0')
return string.format('%.17g', full_at - (at[1] * 1000000 + at[2]))
"""
_US = 1_000_000


class RedisTokenBuckets(RedisStorage):
    """`limits`' Redis storage with token buckets. Nothing is connected until it is needed.

    It serves `valkey://` too: both servers have the same protocol, and one client is enough.
    """

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        """`clock`, in seconds, replaces the server's clock. A server must not serve different clocks."""
        from redis.backoff import NoBackoff  # only who uses Redis pays for its client
        from redis.retry import Retry

        super().__init__(
            as_redis(url),
            key_prefix=PREFIX,
            wrap_exceptions=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            # Once more, on a new connection: the server may have been restarted since the last call.
            retry=Retry(NoBackoff(), 1),  # type: ignore[arg-type]  # passed on to the client as it is
        )
        self._clock = clock
        self._take = self.get_connection().register_script(_TAKE.encode())
        self._full_in = self.get_connection().register_script(_FULL_IN.encode())

    def take_tokens(self, key: str, rate: float, burst: int, cost: int) -> tuple[bool, float, float]:
        """See `TokenBucketSupport`."""
        now = "" if self._clock is None else f"{self._clock() * _US:.0f}"
        try:
            allowed, full_in_us, wait_us = self._take([self.prefixed_key(key)], [repr(rate), burst, cost, now])
        except self.base_exceptions as e:
            raise StorageError(e) from e
        return bool(allowed), float(full_in_us) / _US, max(0.0, float(wait_us) / _US)

    def full_in(self, key: str) -> float:
        """See `TokenBucketSupport`."""
        try:
            return max(0.0, float(self._full_in([self.prefixed_key(key)])) / _US)
        except self.base_exceptions as e:
            raise StorageError(e) from e


def as_redis(url: str) -> str:
    """Return the URL in the form that the client library takes."""
    scheme, _, rest = url.partition("://")
    names = {"valkey": "redis", "valkeys": "rediss", "valkey+unix": "redis+unix"}
    return f"{names.get(scheme, scheme)}://{rest}"

"""Describe a token bucket and its decisions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from limits import RateLimitItemPerSecond


class Bucket(RateLimitItemPerSecond):
    """`burst` tokens, refilled at `rate` a second. An item as `limits` has them, of another strategy.

    Its key names rate and burst: who is given another rate begins with a full bucket of it.
    """

    __slots__ = ("_end", "burst", "rate")

    def __init__(self, rate: float, burst: int, namespace: str = "bucket") -> None:
        super().__init__(burst, namespace=namespace)
        self.rate = rate
        self.burst = burst
        self._end = f"{rate:.9g}/{burst}"

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """Return the storage key of the bucket of those identifiers."""
        return "/".join((self.namespace, *map(str, identifiers), self._end))

    def widened(self, factor: int) -> Bucket:
        """Return a bucket with that multiple of the rate and the burst."""
        return Bucket(self.rate * factor, self.burst * factor, self.namespace)


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of a bucket: allowed or not, and the headers for the client."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float

    @classmethod
    def of(cls, bucket: Bucket, *, allowed: bool, full_in_s: float, wait_s: float) -> Decision:
        """Make the decision for a bucket that is full in `full_in_s` and has the requested token in `wait_s`."""
        # The sums of floats must not hide a token that was just refilled.
        remaining = math.floor(bucket.burst - full_in_s * bucket.rate + 1e-6)
        return cls(allowed, bucket.burst, max(0, remaining), full_in_s, 0.0 if allowed else wait_s)

    @property
    def retry_after(self) -> str:
        """Return the waiting time in whole seconds, rounded up."""
        return str(max(1, math.ceil(self.retry_after_s)))

    def headers(self) -> dict[str, str]:
        """Return the `x-ratelimit-*` headers, and `Retry-After` of a refusal."""
        headers = {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": duration_text(self.reset_s),
        }
        if not self.allowed:
            headers["Retry-After"] = self.retry_after
        return headers


def duration_text(seconds: float) -> str:
    """Format a duration as OpenAI's headers do: `0s`, `120ms`, `1.5s`, `2m30s`, `1h0m0s`."""
    ms = math.ceil(round(max(0.0, seconds) * 1000, 3))
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, rest_ms = divmod(ms, 60_000)
    text = f"{rest_ms / 1000:g}s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"

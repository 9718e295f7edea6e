"""A token bucket per key, as GCRA: one float, exact, no timer.

`tat` is when the bucket would be full again. A request moves it by the time one token takes to come back and
is allowed while the bucket, that far from full, still held a token.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Decision:
    """What a bucket said: allowed or not, and what its headers tell the client."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers, and `Retry-After` (whole seconds, rounded up) of a refusal."""
        headers = {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": duration_text(self.reset_s),
        }
        if not self.allowed:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        return headers


class TokenBucket:
    """`burst` tokens, refilled at `rate` a second. Safe for many threads."""

    __slots__ = ("_burst", "_clock", "_lock", "_rate", "_tat")

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tat = -math.inf
        self._lock = Lock()

    def spend(self) -> Decision:
        """Take one token if there is one."""
        with self._lock:
            now = self._clock()
            tat = max(self._tat, now)
            after = tat + 1 / self._rate
            wait_s = after - self._burst / self._rate - now
            # A tolerance of a nanosecond: the sums of floats must not refuse a token that has just come back.
            allowed = wait_s <= 1e-9
            if allowed:
                self._tat = tat = after
        reset_s = tat - now
        remaining = math.floor(self._burst - reset_s * self._rate + 1e-6)
        return Decision(allowed, self._burst, max(0, remaining), reset_s, 0.0 if allowed else wait_s)


def duration_text(seconds: float) -> str:
    """A duration in the form OpenAI's headers use: `0s`, `120ms`, `1.5s`, `2m30s`, `1h0m0s`."""
    ms = math.ceil(round(max(0.0, seconds) * 1000, 3))
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, rest_ms = divmod(ms, 60_000)
    text = f"{rest_ms / 1000:g}s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"

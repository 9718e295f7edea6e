"""The bucket is exact: never a token too many in any window, never one withheld that is back."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ratelimit import Decision, TokenBucket, duration_text


class Clock:
    def __init__(self, at=1000.0):
        self.at = at

    def __call__(self):
        return self.at


def test_burst_then_rate():
    clock = Clock()
    bucket = TokenBucket(2.0, 3, clock)
    assert [bucket.spend().allowed for _ in range(4)] == [True, True, True, False]
    clock.at += 0.5
    assert [bucket.spend().allowed for _ in range(2)] == [True, False]
    clock.at += 100
    assert [bucket.spend().allowed for _ in range(4)] == [True, True, True, False]


def test_headers_tell_the_truth():
    clock = Clock()
    bucket = TokenBucket(0.5, 2, clock)
    assert bucket.spend().headers() == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "2s",
    }
    bucket.spend()
    refused = bucket.spend()
    assert refused.headers() == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "4s",
        "Retry-After": "2",
    }
    clock.at += int(refused.headers()["Retry-After"])
    assert bucket.spend().allowed


def test_retry_after_is_a_whole_second_at_least():
    assert Decision(False, 1, 0, 0.01, 0.01).headers()["Retry-After"] == "1"
    assert Decision(False, 1, 0, 1.01, 1.01).headers()["Retry-After"] == "2"


@given(
    st.sampled_from([0.5, 1.0, 3.0, 7.0, 1000.0]),
    st.integers(1, 20),
    st.lists(st.integers(0, 3000), min_size=1, max_size=80),
)
def test_the_same_as_a_bucket_counted_in_fractions(rate, burst, gaps_ms):
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    tokens, at = Fraction(burst), Fraction(0)
    for gap in gaps_ms:
        at += Fraction(gap, 1000)
        clock.at = 1000.0 + float(at)
        tokens = min(Fraction(burst), tokens + Fraction(gap, 1000) * Fraction(rate))
        decision = bucket.spend()
        # At the very edge floats may fall on either side of a nanosecond.
        if abs(tokens - 1) > Fraction(1, 10**5):
            assert decision.allowed == (tokens >= 1)
        if decision.allowed:
            tokens -= 1
        assert abs(decision.remaining - tokens) <= 1
        assert 0 <= decision.remaining <= burst


def test_threads_get_no_token_twice():
    bucket = TokenBucket(0.001, 100, Clock())
    allowed = []

    def work():
        allowed.extend(bucket.spend().allowed for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.0001, "1ms"),
        (0.02, "20ms"),
        (0.999, "999ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (60, "1m0s"),
        (150.25, "2m30.25s"),
        (3600, "1h0m0s"),
    ],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text

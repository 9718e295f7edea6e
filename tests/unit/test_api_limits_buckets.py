"""The bucket is exact: never a token too many in any window, never one withheld that is back."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute

from api.ratelimit.bucket import Bucket, Decision, duration_text
from api.ratelimit.strategy import SWEEP_AT, MemoryTokenBuckets, TokenBucketRateLimiter


class Clock:
    def __init__(self, at=1000.0):
        self.at = at

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return TokenBucketRateLimiter(MemoryTokenBuckets(clock))


def test_burst_then_rate(clock, limiter):
    bucket = Bucket(2.0, 3)
    assert [limiter.hit(bucket, "a") for _ in range(4)] == [True, True, True, False]
    clock.at += 0.5
    assert [limiter.hit(bucket, "a") for _ in range(2)] == [True, False]
    clock.at += 100
    assert [limiter.hit(bucket, "a") for _ in range(4)] == [True, True, True, False]


def test_headers_tell_the_truth(clock, limiter):
    bucket = Bucket(0.5, 2)
    assert limiter.spend(bucket, "a").headers() == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "2s",
    }
    limiter.spend(bucket, "a")
    refused = limiter.spend(bucket, "a")
    assert refused.headers() == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "4s",
        "Retry-After": "2",
    }
    clock.at += int(refused.headers()["Retry-After"])
    assert limiter.spend(bucket, "a").allowed


def test_retry_after_is_a_whole_second_at_least():
    assert Decision(False, 1, 0, 0.01, 0.01).headers()["Retry-After"] == "1"
    assert Decision(False, 1, 0, 1.01, 1.01).headers()["Retry-After"] == "2"


def test_identifiers_rates_and_bursts_have_buckets_of_their_own(limiter):
    assert limiter.hit(Bucket(1, 1), "a")
    assert not limiter.hit(Bucket(1, 1), "a")
    assert limiter.hit(Bucket(1, 1), "b")
    assert limiter.hit(Bucket(2, 1), "a")
    assert limiter.hit(Bucket(1, 2), "a")


def test_the_rest_of_a_strategy_as_limits_has_them(clock, limiter):
    bucket = Bucket(1, 3)
    assert limiter.test(bucket, "a", cost=3)
    assert not limiter.test(bucket, "a", cost=4)
    assert limiter.hit(bucket, "a", cost=2)
    assert limiter.get_window_stats(bucket, "a").remaining == 1
    assert not limiter.hit(bucket, "a", cost=2), "what is refused takes nothing"
    assert limiter.get_window_stats(bucket, "a").remaining == 1
    limiter.clear(bucket, "a")
    assert limiter.get_window_stats(bucket, "a").remaining == 3
    with pytest.raises(TypeError):
        limiter.hit(RateLimitItemPerMinute(1), "a")


def test_buckets_that_are_full_again_do_not_stay_in_memory(clock):
    storage = MemoryTokenBuckets(clock)
    limiter = TokenBucketRateLimiter(storage)
    for number in range(20 * SWEEP_AT):
        clock.at += 0.01
        limiter.hit(Bucket(1, 5), str(number))
    assert storage.buckets <= 2 * SWEEP_AT


@given(
    st.sampled_from([0.5, 1.0, 3.0, 7.0, 10 / 60, 1000.0]),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 3)), min_size=1, max_size=80),
)
def test_the_same_as_a_bucket_counted_in_fractions(rate, burst, steps):
    clock = Clock()
    limiter = TokenBucketRateLimiter(MemoryTokenBuckets(clock))
    model = Model(rate, burst)
    for gap_ms, cost in steps:
        clock.at = 1000.0 + float(model.after(gap_ms))
        model.judge(limiter.spend(Bucket(rate, burst), "a", cost=cost), cost)


class Model:
    """A bucket in exact fractions; shared with the test of Redis."""

    def __init__(self, rate, burst):
        self.rate, self.burst, self.tokens, self.at = Fraction(rate), Fraction(burst), Fraction(burst), Fraction(0)

    def after(self, gap_ms):
        gap = Fraction(gap_ms, 1000)
        self.at += gap
        self.tokens = min(self.burst, self.tokens + gap * self.rate)
        return self.at

    def judge(self, decision, cost, edge=Fraction(1, 10**5)):
        # At the very edge floats may fall on either side.
        if abs(self.tokens - cost) > edge:
            assert decision.allowed == (self.tokens >= cost)
        if decision.allowed:
            self.tokens -= cost
        assert abs(decision.remaining - self.tokens) <= 1
        assert 0 <= decision.remaining <= self.burst
        if not decision.allowed and cost <= self.burst:
            assert abs(Fraction(decision.retry_after_s) - (cost - self.tokens) / self.rate) < Fraction(1, 1000)


def test_threads_get_no_token_twice(limiter):
    allowed = []

    def work():
        allowed.extend(limiter.hit(Bucket(0.001, 100), "a") for _ in range(50))

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

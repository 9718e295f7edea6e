"""Buckets in a real Redis: the same bucket, in one atomic step, and what holds while it is away."""

from __future__ import annotations

import multiprocessing
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits.errors import StorageError

from api.ratelimit.bucket import Bucket
from api.ratelimit.limiter import BACKEND_RETRY_S, Limiter
from api.ratelimit.redis import RedisTokenBuckets, as_redis
from api.ratelimit.strategy import TokenBucketRateLimiter
from config.ids import new_id
from tests.support.workers import until
from tests.unit.test_api_limits_buckets import Clock, Model

STRANGERS = Bucket(50, 500)


@given(
    st.sampled_from([0.5, 3.0, 7.0, 10 / 60, 1000.0]),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 3)), min_size=1, max_size=40),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_same_as_a_bucket_counted_in_fractions(redis, rate, burst, steps):
    # Its keys expire by the server's own clock, which hardly moves meanwhile.
    clock = Clock(1_800_000_000.0)
    limiter, name = TokenBucketRateLimiter(RedisTokenBuckets(redis.url, clock)), new_id("test")
    model = Model(rate, burst)
    for gap_ms, cost in steps:
        clock.at = 1_800_000_000.0 + float(model.after(gap_ms))
        # A microsecond is what this clock can tell, and 10 000 steps of it the edge.
        model.judge(limiter.spend(Bucket(rate, burst), name, cost=cost), cost, edge=model.rate / 10**4)


def test_by_the_servers_own_clock(redis):
    limiter, name = TokenBucketRateLimiter(RedisTokenBuckets(redis.url)), new_id("test")
    slow, quick = Bucket(0.001, 3), Bucket(20, 1)
    assert [limiter.hit(slow, name) for _ in range(4)] == [True, True, True, False]
    assert limiter.get_window_stats(slow, name).remaining == 0
    assert limiter.hit(quick, name)
    until(lambda: limiter.test(quick, name), 30)
    assert limiter.hit(quick, name)


def test_a_clock_that_was_set_back_locks_nobody_out(redis):
    clock = Clock(2_000_000_000.0)
    limiter, name = TokenBucketRateLimiter(RedisTokenBuckets(redis.url, clock)), new_id("test")
    bucket = Bucket(0.1, 2)
    assert limiter.hit(bucket, name, cost=2)
    clock.at -= 1_000_000
    refused = limiter.spend(bucket, name)
    assert not refused.allowed
    assert refused.retry_after_s <= 10.001


def test_valkeys_urls_are_understood():
    assert as_redis("valkey://u:p@h:1/2") == "redis://u:p@h:1/2"
    assert as_redis("valkeys://h") == "rediss://h"
    assert as_redis("valkey+unix:///s") == "redis+unix:///s"
    assert as_redis("rediss://h") == "rediss://h"


def hits(url, name, number):
    limiter = TokenBucketRateLimiter(RedisTokenBuckets(url))
    return sum(limiter.hit(Bucket(0.0001, 100), name) for _ in range(number))


def test_processes_get_no_token_twice(redis):
    name = new_id("test")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert sum(pool.starmap(hits, [(redis.url, name, 60)] * 4)) == 100


@pytest.mark.parametrize("how", ["stop", "hang"])
def test_while_it_is_away_each_process_limits_by_itself(redis, how, caplog):
    limiter, bucket, name = (
        Limiter(url=redis.url, anonymous=STRANGERS, keys_an_hour=2),
        Bucket(0.001, 3),
        new_id("k"),
    )
    assert limiter.spend(name, bucket, reading=False).remaining == 2
    try:
        getattr(redis, how)()
        with pytest.raises(StorageError):
            TokenBucketRateLimiter(RedisTokenBuckets(redis.url)).hit(bucket, name)
        answers = [limiter.spend(name, bucket, reading=False).allowed for _ in range(5)]
        assert answers == [True, True, True, False, False], "a bucket of its own, and a bound"
        assert [limiter.new_key("192.0.2.1").allowed for _ in range(3)] == [True, True, False]
        assert [record.message for record in caplog.records].count(
            "RATELIMIT_URL cannot be reached: this process limits by itself"
        ) == 1
        began = time.process_time()
        for _ in range(200):
            limiter.spend(name, Bucket(1e6, 1000), reading=True)
        assert time.process_time() - began < 2, "Redis is not asked for each of them"
    finally:
        if how == "hang":
            redis.go_on()
        else:
            redis.start()
    until(lambda: "RATELIMIT_URL can be reached again" in _said(limiter, caplog), BACKEND_RETRY_S + 30)


def _said(limiter, caplog):
    limiter.anonymous("192.0.2.9")
    time.sleep(0.05)
    return [record.message for record in caplog.records]


def test_keys_an_hour_are_counted_by_address_and_for_all_processes(redis):
    address, network = "198.51.100.7", "2001:db8:77::1"
    first, second = (Limiter(url=redis.url, anonymous=STRANGERS, keys_an_hour=20) for _ in range(2))
    answers = [(first, second)[n % 2].new_key(address) for n in range(21)]
    assert [answer.allowed for answer in answers] == [True] * 20 + [False]
    assert 3500 < answers[-1].retry_after_s <= 3600
    assert first.new_key(network).allowed

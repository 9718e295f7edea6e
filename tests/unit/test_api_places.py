"""Threads for what takes long: bounded, given back once, and shared between keys."""

from __future__ import annotations

import pytest

from api.errors import ApiError
from api.http.concurrency import SMALL_BYTES, ConcurrencyLimiter, Pools
from config.settings import Settings


def refused(places, key, status, code):
    with pytest.raises(ApiError) as e:
        places.acquire(key)
    assert (e.value.status, e.value.error.code) == (status, code)
    assert int(e.value.headers["Retry-After"]) >= 1


def test_a_place_is_given_back_once():
    places = ConcurrencyLimiter(1, "full")
    release = places.acquire("a")
    refused(places, "a", 503, "overloaded")
    release()
    release()
    places.acquire("a")
    refused(places, "a", 503, "overloaded")


@pytest.mark.parametrize("keys", [2, 10, 50])
def test_what_is_reserved_is_for_those_who_hold_little(keys):
    places = ConcurrencyLimiter(192, "full", reserved=96)
    greedy = [places.acquire("greedy") for _ in range(96)]
    refused(places, "greedy", 429, "too_many_runs")
    others = [places.acquire(f"key_{number}") for number in range(keys - 1)]
    refused(places, "greedy", 429, "too_many_runs")
    for release in others + greedy:
        release()
    assert not places._held
    for _ in range(96):
        places.acquire("another")


def test_when_all_is_held_in_equal_shares_there_is_none_for_anybody():
    places = ConcurrencyLimiter(8, "full", reserved=4)
    for _ in range(4):
        places.acquire("a")
        places.acquire("b")
    refused(places, "a", 429, "too_many_runs")
    refused(places, "c", 503, "overloaded")


def test_an_answer_that_fits_into_the_sockets_buffer_takes_no_place():
    places = ConcurrencyLimiter(1, "full")
    for _ in range(3):
        places.acquire_for_response(SMALL_BYTES, "a")
    places.acquire_for_response(SMALL_BYTES + 1, "a")
    with pytest.raises(ApiError):
        places.acquire_for_response(SMALL_BYTES + 1, "b")
    places.acquire_for_response(SMALL_BYTES, "b")


@pytest.mark.parametrize("pool", ["waiters", "readers", "uploads", "documents", "followers", "attached"])
def test_nobody_can_have_all_of_a_pool(pool):
    places = getattr(Pools.of(Settings()), pool)
    greedy = places._number - places._reserved
    for _ in range(greedy):
        places.acquire("greedy")
    refused(places, "greedy", 429, "too_many_runs" if pool == "waiters" else "too_many_connections")
    places.acquire("another")
    # Not even in the pool that is held: what is reserved is for those who hold less than an equal share.
    for number in range(places._free):
        places.acquire(f"key_{number}")
    refused(places, "last", 503, "overloaded")


def test_the_settings_are_what_one_key_may_have():
    pools = Pools.of(Settings(event_readers=10, uploads_max=3, streams_max=20))
    for places, number in ((pools.readers, 10), (pools.uploads, 3), (pools.followers, 20)):
        for _ in range(number):
            places.acquire("one")
        refused(places, "one", 429, "too_many_connections")
        places.acquire("two")

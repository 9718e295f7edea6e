"""Threads for what takes long: bounded, given back once, and shared between keys."""

from __future__ import annotations

import pytest

from api.errors import ApiError
from api.places import Places


def refused(places, key, status, code):
    with pytest.raises(ApiError) as e:
        places.take(key)
    assert (e.value.status, e.value.error.code) == (status, code)
    assert int(e.value.headers["Retry-After"]) >= 1


def test_a_place_is_given_back_once():
    places = Places(1, "full")
    give_back = places.take()
    refused(places, "", 503, "overloaded")
    give_back()
    give_back()
    places.take()
    refused(places, "", 503, "overloaded")


@pytest.mark.parametrize("keys", [2, 10, 50])
def test_what_is_reserved_is_for_those_who_hold_little(keys):
    places = Places(192, "full", reserved=96)
    greedy = [places.take("greedy") for _ in range(96)]
    refused(places, "greedy", 429, "too_many_runs")
    others = [places.take(f"key_{number}") for number in range(keys - 1)]
    refused(places, "greedy", 429, "too_many_runs")
    for give_back in others + greedy:
        give_back()
    assert not places._held
    for _ in range(96):
        places.take("another")


def test_when_all_is_held_in_equal_shares_there_is_none_for_anybody():
    places = Places(8, "full", reserved=4)
    for _ in range(4):
        places.take("a")
        places.take("b")
    refused(places, "a", 429, "too_many_runs")
    refused(places, "c", 503, "overloaded")

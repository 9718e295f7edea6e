"""The nearest known name to a wrong one."""

from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.nearest import MAX_COMPARED, distance, nearest

KNOWN = ("timeout_ms", "memory_mb", "cpus", "pids", "stdin", "args")


def edits(one, other):
    """The definition, without a bound: Damerau's distance where no text is edited twice."""

    @cache
    def between(i, j):
        if not i or not j:
            return i + j
        found = min(
            between(i - 1, j) + 1,
            between(i, j - 1) + 1,
            between(i - 1, j - 1) + (one[i - 1] != other[j - 1]),
        )
        if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
            found = min(found, between(i - 2, j - 2) + 1)
        return found

    return between(len(one), len(other))


words = st.text("abc", max_size=8)


@given(words, words, st.integers(0, 4))
def test_the_distance_is_that_of_the_definition_up_to_its_bound(one, other, most):
    known = edits(one, other)
    assert distance(one, other, most) == (known if known <= most else None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timeout_ms", "timeout_ms"), ("timeoutMs", "timeout_ms"), ("TIMEOUT-MS", "timeout_ms"),
        ("timeot_ms", "timeout_ms"), ("memroy_mb", "memory_mb"), ("timeout", "timeout_ms"), ("memory", "memory_mb"),
        ("cpu", None), ("stdni", "stdin"), ("arg", None), ("argz", "args"), ("pidz", "pids"),
        ("colour", None), ("", None), ("_", None), ("ids", None), ("\x00" * 5, None), ("ünïcödé", None),
    ],
)  # fmt: skip
def test_a_typing_mistake_is_found_and_a_strange_name_is_not(name, expected):
    assert nearest(name, KNOWN, prefixes=True) == expected


def test_a_beginning_is_near_only_where_that_is_asked_for():
    assert nearest("java", ["javascript"]) is None
    assert nearest("java", ["javascript"], prefixes=True) == "javascript"


def test_a_synonym_goes_before_what_is_spelled_alike():
    assert nearest("Std-Im", KNOWN, synonyms={"stdim": "args"}) == "args"


def test_a_huge_name_costs_nothing():
    began = time.process_time()
    for name in ("t" * 10_000_000, "timeout_ms" * 100_000, "timeout_ms" + " " * MAX_COMPARED):
        assert nearest(name, KNOWN, prefixes=True) is None
    assert time.process_time() - began < 1

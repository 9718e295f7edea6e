"""A number of a query is taken within its bounds, and refused by name and bounds otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.http.query import parse_int


@given(st.integers(1, 100), st.integers(0, 5))
def test_what_is_within_the_bounds_is_taken(number, zeros):
    assert parse_int("0" * zeros + str(number), "limit", 1, 100, default=20) == number


def test_what_is_not_given_is_the_default():
    assert parse_int(None, "limit", 1, 100, default=20) == 20


@pytest.mark.parametrize("text", ["", "0", "101", "-1", "+1", "1.0", " 1", "1_0", "\u0661", "\u00b2", "9" * 5000])
def test_anything_else_is_refused_by_name_and_bounds(text):
    with pytest.raises(ApiError) as refused:
        parse_int(text, "limit", 1, 100, default=20)

    assert refused.value.status == 400
    assert refused.value.error.param == "limit"
    assert "from 1 to 100" in refused.value.error.message

"""Tokens: every malformed one is a 401 that says so, and none is told from another by its wording."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.auth import Authenticator
from api.errors import ApiError
from config.settings import ApiKey

KEYS = (ApiKey("dev_123", "dev", 1000, 1000), ApiKey("other-token", "dev", 1, 1))


@pytest.fixture(scope="module")
def authenticator():
    return Authenticator(KEYS)


@pytest.mark.parametrize("header", ["Bearer dev_123", "bearer dev_123", "BEARER  dev_123", "Bearer dev_123 "])
def test_known(authenticator, header):
    assert authenticator.authenticate(header).label == "dev"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_token"),
        ("", "missing_token"),
        ("Bearer", "malformed_token"),
        ("Bearer ", "malformed_token"),
        ("dev_123", "malformed_token"),
        ("Basic dev_123", "malformed_token"),
        ("Bearer a b", "malformed_token"),
        ("Bearer dev_12", "invalid_token"),
        ("Bearer dev_1234", "invalid_token"),
        ("Bearer DEV_123", "invalid_token"),
        ("Bearer é\xff", "invalid_token"),
        ("Bearer \ud800", "invalid_token"),
        ("Bearer " + "x" * 1_000_000, "invalid_token"),
        ("Bearer dev_123\0", "invalid_token"),
    ],
)
def test_refused(authenticator, header, code):
    with pytest.raises(ApiError) as caught:
        authenticator.authenticate(header)
    assert caught.value.status == 401
    assert caught.value.error.code == code
    assert caught.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert "dev_123" not in caught.value.error.message


@given(st.text())
def test_no_text_is_a_token_or_an_accident(header):
    with pytest.raises(ApiError) as caught:
        Authenticator(KEYS).authenticate(header)
    assert caught.value.status == 401


def test_two_tokens_of_one_label_are_two_owners(authenticator):
    first = authenticator.authenticate("Bearer dev_123")
    second = authenticator.authenticate("Bearer other-token")
    assert first.id != second.id
    assert "dev_123" not in first.id
    assert Authenticator(KEYS).authenticate("Bearer dev_123").id == first.id


def test_no_key_no_entry():
    with pytest.raises(ApiError):
        Authenticator(()).authenticate("Bearer dev_123")


def test_reading_and_running_have_buckets_of_their_own():
    caller = Authenticator(KEYS).authenticate("Bearer other-token")
    assert [caller.spend(reading=False).allowed for _ in range(2)] == [True, False]
    reads = [caller.spend(reading=True) for _ in range(11)]
    assert [read.allowed for read in reads] == [True] * 10 + [False]
    assert reads[0].limit == 10

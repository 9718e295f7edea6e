"""Tokens of one session: what is made is known again, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.keys.session_tokens import SessionTokens

ID = "sess_" + "a2" * 13
TOKENS = SessionTokens(["new" * 20, "old" * 20])


def test_a_token_is_the_same_each_time_and_is_for_its_session():
    token = TOKENS.make(ID)
    assert TOKENS.make(ID) == token
    assert TOKENS.session_of(token) == ID
    assert "new" not in token


def test_a_token_of_an_older_key_is_good_and_one_of_another_service_is_not():
    assert TOKENS.session_of(SessionTokens(["old" * 20]).make(ID)) == ID
    assert TOKENS.session_of(SessionTokens(["others" * 20]).make(ID)) is None


def test_a_token_is_not_for_another_session():
    token = TOKENS.make(ID)
    other = "sess_" + "b3" * 13
    assert TOKENS.session_of(token.replace(ID.removeprefix("sess_"), other.removeprefix("sess_"))) is None


@given(st.text(max_size=120))
def test_any_other_text_is_no_token(text):
    assert TOKENS.session_of(text) is None
    assert TOKENS.session_of("st_" + text) is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_cut_token_is_none(cut):
    assert TOKENS.session_of(TOKENS.make(ID)[:-cut]) is None

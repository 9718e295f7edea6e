"""The text of a key: told by its form and its checksum, and from nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.keys.key_format import digest, is_well_formed, new_key_text

KNOWN = "ry_0123456789ABCDEFGHIJKLMNOPQRSTUV"


def test_a_key_is_what_the_contract_says():
    keys = {new_key_text() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert re.fullmatch(r"ry_[0-9A-Za-z]{38}", key)
        assert is_well_formed(key)
        assert len(digest(key)) == 32


def test_the_checksum_does_not_change_with_a_version():
    assert is_well_formed(_whole(KNOWN))


def _whole(start):
    """Reckoned here once more: a CRC-32 in base 62."""
    import zlib

    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    value, end = zlib.crc32(start.encode()), ""
    while value:
        value, digit = divmod(value, 62)
        end = digits[digit] + end
    return start + end.rjust(6, "0")


@given(st.integers(3, 40), st.sampled_from("0aZ_é\0 "))
def test_one_character_wrong_is_no_key(position, character):
    key = new_key_text()
    other = key[:position] + character + key[position + 1 :]
    assert is_well_formed(other) == (other == key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ry_",
        "ry_" + "a" * 38,
        "ry_" + "a" * 37,
        "sk-proj-" + "a" * 40,
        "ghp_" + "a" * 36,
        "dev_123",
        "RY_" + "a" * 38,
    ],
)
def test_a_key_of_another_service_is_none(text):
    assert not is_well_formed(text)


@given(st.text())
def test_no_text_is_an_accident(text):
    assert not is_well_formed(text)
    assert len(digest(text)) == 32

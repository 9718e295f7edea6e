"""Version selectors of Piston: what npm's semver says of each, and what holds for all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.piston.versions import MAX_SELECTOR, Version, installed_version, matches

#: By selector those of INSTALLED that npm's semver 7.8.6 finds to satisfy it.
INSTALLED = ["3.13.5", "0.2.3", "0.0.3", "4.0.0", "3.13.5-rc.1", "24.19.0", "3.13.0"]
SELECTED = {
    "*": "3.13.5 0.2.3 0.0.3 4.0.0 24.19.0 3.13.0",
    "": "3.13.5 0.2.3 0.0.3 4.0.0 24.19.0 3.13.0",
    "x": "3.13.5 0.2.3 0.0.3 4.0.0 24.19.0 3.13.0",
    "3": "3.13.5 3.13.0",
    "3.x": "3.13.5 3.13.0",
    "3.X.x": "3.13.5 3.13.0",
    "3.13": "3.13.5 3.13.0",
    "3.13.x": "3.13.5 3.13.0",
    "3.13.5": "3.13.5",
    "v3.13.5": "3.13.5",
    "=3.13.5": "3.13.5",
    "= 3.13.5": "3.13.5",
    "3.13.4": "",
    "^3": "3.13.5 3.13.0",
    "^3.10": "3.13.5 3.13.0",
    "^3.13.6": "",
    "^ 3.10": "3.13.5 3.13.0",
    "^2": "",
    "^0.2.3": "0.2.3",
    "^0.0.3": "0.0.3",
    "^0": "0.2.3 0.0.3",
    "^0.0": "0.0.3",
    "~3": "3.13.5 3.13.0",
    "~3.13": "3.13.5 3.13.0",
    "~3.12": "",
    "~> 3.13": "3.13.5 3.13.0",
    "~3.13.5": "3.13.5",
    "~3.13.6": "",
    ">=3 <4": "3.13.5 3.13.0",
    ">=3.10 <3.13": "",
    ">3": "4.0.0 24.19.0",
    ">2": "3.13.5 4.0.0 24.19.0 3.13.0",
    ">3.13": "4.0.0 24.19.0",
    "<4": "3.13.5 0.2.3 0.0.3 3.13.0",
    "<3.13.5": "0.2.3 0.0.3 3.13.0",
    "<=3.13.5": "3.13.5 0.2.3 0.0.3 3.13.0",
    "<=3": "3.13.5 0.2.3 0.0.3 3.13.0",
    "<=3.13": "3.13.5 0.2.3 0.0.3 3.13.0",
    "< 4.0.0": "3.13.5 0.2.3 0.0.3 3.13.0",
    ">=3.13.5": "3.13.5 4.0.0 24.19.0",
    ">3.13.5": "4.0.0 24.19.0",
    "1 - 3": "3.13.5 3.13.0",
    "3.0 - 3.12": "",
    "3.13.5 - 4": "3.13.5 4.0.0",
    "3 - *": "3.13.5 4.0.0 24.19.0 3.13.0",
    "2.x || 3.x": "3.13.5 3.13.0",
    "2 || 4": "4.0.0",
    "||": "3.13.5 0.2.3 0.0.3 4.0.0 24.19.0 3.13.0",
    "latest": "",
    "3.": "",
    "3..1": "",
    "3.x.1": "",
    ">": "",
    "1.2.3.4": "",
    "3,13": "",
    ">=3.13.5-alpha": "3.13.5 4.0.0 3.13.5-rc.1 24.19.0",
    "^3.13.5-beta": "3.13.5 3.13.5-rc.1",
    "3.13.5-rc.1": "3.13.5-rc.1",
    "3.13.5+build": "3.13.5",
    ">*": "",
    "<*": "",
    ">=*": "3.13.5 0.2.3 0.0.3 4.0.0 24.19.0 3.13.0",
    "03.13": "",
    "99999999999999999999": "",
    "3.13.5 3.13.5": "3.13.5",
    ">=3||<1": "3.13.5 0.2.3 0.0.3 4.0.0 24.19.0 3.13.0",
    " 3.x ": "3.13.5 3.13.0",
    "3.x-": "",
    "~": "",
    "^": "",
    "=>3": "",
    "<=>3": "",
    "3 4": "",
    ">= 3 , < 4": "",
    "~0.2": "0.2.3",
    "^0.2": "0.2.3",
    "0.x": "0.2.3 0.0.3",
    "0.2.3": "0.2.3",
    "0.0.3": "0.0.3",
}

NUMBERS = st.integers(0, 40)
VERSIONS = st.builds(Version, NUMBERS, NUMBERS, NUMBERS)


def parsed(text):
    numbers, _, prerelease = text.partition("-")
    return Version(*map(int, numbers.split(".")), tuple(prerelease.split(".")) if prerelease else ())


@pytest.mark.parametrize("selector", SELECTED)
def test_a_selector_finds_what_npms_semver_finds(selector):
    assert " ".join(text for text in INSTALLED if matches(parsed(text), selector)) == SELECTED[selector]


@given(VERSIONS)
def test_a_version_selects_itself(version):
    text = str(version)
    for selector in (
        text,
        f"v{text}",
        f"={text}",
        f"^{text}",
        f"~{text}",
        f">={text}",
        f"<={text}",
        f"{text} - {text}",
    ):
        assert matches(version, selector)
    for selector in (f">{text}", f"<{text}"):
        assert not matches(version, selector)


@given(VERSIONS, VERSIONS)
def test_what_a_caret_and_a_tilde_keep(version, least):
    at_least = version.numbers >= least.numbers
    first = next((at for at, number in enumerate(least.numbers) if number), 2)
    kept = version.numbers[: first + 1] == least.numbers[: first + 1]
    assert matches(version, f"^{least}") == (at_least and kept)
    assert matches(version, f"~{least}") == (at_least and version.numbers[:2] == least.numbers[:2])
    assert matches(version, f"{least.major}.x") == (version.major == least.major)
    assert matches(version, f"{least.major}.{least.minor}") == (version.numbers[:2] == least.numbers[:2])


@given(VERSIONS, VERSIONS, VERSIONS)
def test_comparisons_are_of_numbers(version, low, high):
    assert matches(version, f">={low} <{high}") == (low.numbers <= version.numbers < high.numbers)
    assert matches(version, f"{low} - {high}") == (low.numbers <= version.numbers <= high.numbers)
    assert matches(version, f"<{low} || >{high}") == (
        version.numbers < low.numbers or version.numbers > high.numbers
    )


@given(VERSIONS, st.text(alphabet="0123456789.xX*^~<>=|- vab+", max_size=40))
def test_any_text_is_a_selector_or_none(version, text):
    assert matches(version, text) in (True, False)


def test_a_long_selector_is_not_read():
    assert matches(Version(1, 2, 3), "1.2.3" + " " * (MAX_SELECTOR - 5))
    assert not matches(Version(1, 2, 3), "1.2.3" + " " * (MAX_SELECTOR - 4))


@pytest.mark.parametrize(
    ("text", "version"),
    [("3.13.5", "3.13.5"), ("v24.19.0", "24.19.0"), ("8.4", "8.4.0"), ("5.2.37(1)-release", "5.2.37"), ("go1.24.4", "1.24.4"), ("", "0.0.0")],
)  # fmt: skip
def test_the_version_of_a_language(text, version):
    assert str(installed_version(text)) == version

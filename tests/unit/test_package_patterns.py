"""Patterns of permitted packages: what one is, what it permits, and the bound that it adds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.package_patterns import parse_package_pattern, parse_pattern_table, permitted
from protocol.packages import MAX_BOUNDED_BYTES, parse_package
from protocol.version_ranges import is_within, parse_version


def bounded(ecosystem, pattern, text):
    found = parse_package_pattern(ecosystem, pattern).permit(parse_package(ecosystem, text))
    return None if found is None else found.text


@pytest.mark.parametrize(
    ("ecosystem", "pattern", "text", "result"),
    [
        ("pip", "requests", "Requests==2", "requests==2"),
        ("pip", "requests", "requests[socks]", "requests[socks]"),
        ("pip", "requests", "requests2", None),
        ("pip", "*", "anything", "anything"),
        ("pip", "Types_*", "types-requests", "types-requests"),
        ("pip", "types-*", "typeshed", None),
        ("pip", "numpy>=1.20,<3", "numpy", "numpy<3,>=1.20"),
        ("pip", "numpy>=1.20,<3", "numpy==1.26.4", "numpy==1.26.4"),
        ("pip", "numpy>=1.20,<3", "numpy==3", None),
        ("pip", "numpy>=1.20,<3", "numpy==1.19.9", None),
        ("pip", "numpy>=1.20,<3", "numpy>1", "numpy<3,>1,>=1.20"),
        ("pip", "numpy>=1.20,<3", "numpy==2.*", "numpy<3,==2.*,>=1.20"),
        ("npm", "@types/*", "@types/node@^22", "@types/node@^22"),
        ("npm", "@types/*", "@types-evil/node", None),
        ("npm", "lod*", "@lod/x", None),
        ("npm", "lodash@^4", "lodash", "lodash@^4"),
        ("npm", "lodash@^4", "lodash@4.17.21", "lodash@4.17.21"),
        ("npm", "lodash@^4", "lodash@5.0.0", None),
        ("npm", "lodash@^4", "lodash@4.0.0-rc.1", None),
        ("npm", "lodash@^4", "lodash@next", None),
        ("npm", "lodash@^4", "lodash@>=3 || 2.x", "lodash@>=3 ^4 || 2.x ^4"),
        ("npm", "lodash@3 || 4", "lodash@>=3.5", "lodash@>=3.5 3 || >=3.5 4"),
        ("npm", "lodash@*", "lodash@9.0.0", "lodash@9.0.0"),
        ("go", "github.com/google/*", "github.com/google/uuid@v1.6.0", "github.com/google/uuid@v1.6.0"),
        ("go", "github.com/google/*", "github.com/googleevil/uuid", None),
        ("go", "golang.org/x/text@v0.14.0", "golang.org/x/text", "golang.org/x/text@v0.14.0"),
        ("go", "golang.org/x/text@v0.14.0", "golang.org/x/text@v0.15.0", None),
        ("cargo", "serde_json", "serde-json@1", "serde-json@1"),
        ("cargo", "serde*", "serde_json", "serde_json@*"),
        ("cargo", "rand@0.8", "rand", "rand@0.8"),
        ("cargo", "rand@0.8", "rand[std]", "rand[std]@0.8"),
        ("cargo", "rand@0.8", "rand[std]@=0.9.0", None),
        ("cargo", "rand@0.8", "rand@=0.8.5", "rand@=0.8.5"),
        ("cargo", "rand@0.8", "rand@=0.9.0", None),
        ("cargo", "rand@0.8", "rand@>=0.7", "rand@>=0.7, 0.8"),
    ],
)
def test_what_a_pattern_permits_and_adds(ecosystem, pattern, text, result):
    assert bounded(ecosystem, pattern, text) == result
    if result is not None:
        assert parse_package(ecosystem, result, most_bytes=MAX_BOUNDED_BYTES).text == result


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"pip": [""]}, r"pip\.0: must not be empty"),
        ({"pip": ["ok", "-r x"]}, r"pip\.1: "),
        ({"pip": ["a*b"]}, r"pip\.0: "),
        ({"pip": ["**"]}, r"pip\.0: is not the beginning"),
        ({"pip": ["httpx[http2]"]}, "extras"),
        ({"cargo": ["rand[std]"]}, "features"),
        ({"npm": ["x@next"]}, "tag"),
        ({"npm": ["../*"]}, "beginning of a name"),
        ({"go": ["-x*"]}, "beginning of a name"),
        ({"cargo": ["x@latest"]}, r"cargo\.0"),
        ({"gem": ["rails"]}, "gem: there is no such ecosystem; known are pip, npm, go, cargo"),
        ({"pip": ["x"] * 1001}, "maximum is 1000"),
    ],
)
def test_what_is_no_pattern_is_refused_by_its_key(table, words):
    with pytest.raises(ValueError, match=words):
        parse_pattern_table(table)


def test_the_first_pattern_that_permits_decides():
    patterns = parse_pattern_table({"pip": ["numpy<2", "numpy", "n*"]})
    assert permitted(patterns, parse_package("pip", "numpy")).text == "numpy<2"
    assert permitted(patterns, parse_package("pip", "numpy==2.1")).text == "numpy==2.1"
    assert permitted(patterns, parse_package("pip", "scipy")) is None


def test_a_bound_that_makes_the_entry_too_long_permits_nothing():
    pattern = parse_package_pattern("npm", "x@" + " || ".join(["1.2.3"] * 20))
    assert pattern.permit(parse_package("npm", "x@" + " || ".join(["^1"] * 25))) is None


#: As node-semver's own tests have them.
@pytest.mark.parametrize(
    ("text", "version", "result"),
    [
        ("1.0.0", "1.0.0", True),
        ("*", "1.2.3", True),
        (">=1.0.0", "1.1.0", True),
        (">1.0.0", "1.0.0", False),
        ("<=2.0.0", "2.0.0", True),
        ("<2.0.0", "2.0.0", False),
        (">1", "1.9.9", False),
        (">1", "2.0.0", True),
        ("<=1", "1.9.9", True),
        ("<=1.2", "1.3.0", False),
        ("<1.2", "1.1.1", True),
        ("2.x.x", "2.1.3", True),
        ("1.2.x", "1.3.3", False),
        ("2", "2.1.2", True),
        ("2.3", "2.3.1", True),
        ("~2.4", "2.4.5", True),
        ("~2.4", "2.5.0", False),
        ("~1", "1.2.3", True),
        ("~>3.2.1", "3.2.2", True),
        ("~0.0.1", "0.0.2", True),
        ("^1.2.3", "1.8.1", True),
        ("^1.2.3", "2.0.0", False),
        ("^0.1.2", "0.1.5", True),
        ("^0.1", "0.2.0", False),
        ("^0.0.1", "0.0.2", False),
        ("^0", "0.9.9", True),
        ("^1.2.3-beta", "1.2.3-pre", True),
        ("^1.2.3", "1.2.3-beta", False),
        (">=1.2.3-alpha", "1.2.3-beta", True),
        (">=1.2.3-alpha", "1.2.4-beta", False),
        (">=1.0.0-rc.10", "1.0.0-rc.9", False),
        (">=1.0.0 <2.0.0", "2.1.0", False),
        ("<1.0.0 || >=2.0.0", "2.1.0", True),
        ("<1.0.0 || >=2.0.0", "1.5.0", False),
        ("<*", "0.0.1", False),
    ],
)
def test_ranges_hold_what_npm_says(text, version, result):
    assert is_within(version, [part.split(" ") for part in text.split(" || ")], "=") is result


def test_a_bare_version_is_compatible_ones_for_cargo_and_itself_for_npm():
    assert is_within("1.9.0", [["1.2.3"]], "^")
    assert not is_within("1.9.0", [["1.2.3"]], "=")


NUMBERS = st.tuples(*[st.integers(0, 12)] * 3)


@given(NUMBERS, NUMBERS)
def test_caret_and_tilde_never_leave_the_next_version(low, version):
    text, exact = (".".join(map(str, numbers)) for numbers in (low, version))
    if is_within(exact, [[f"^{text}"]], "="):
        assert low <= version
        assert low[0] == version[0]
    if is_within(exact, [[f"~{text}"]], "="):
        assert is_within(exact, [[f">={text}"]], "=")
        assert low[:2] == version[:2]
    assert is_within(exact, [[f">{text}"]], "=") is (version > low)


@pytest.mark.parametrize("text", ["", "1", "1.2", "x", "1.2.3.4", "^1.2.3", "1.2.x"])
def test_only_an_exact_version_is_one(text):
    with pytest.raises(ValueError, match=r"exact|invalid literal"):
        parse_version(text)

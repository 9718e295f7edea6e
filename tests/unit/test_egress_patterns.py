"""Patterns of hosts: what is one, what each is for, and which covers which."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.network_patterns import PatternInvalid, is_address, parse_host, parse_pattern, parse_pattern_list
from egress.policy import NotPermitted, Policy

LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("API.example.com", "lower case"),
        ("bücher.example", "xn--"),
        ("a b", "visible ASCII"),
        ("a\n", "visible ASCII"),
        ("http://example.com", "made of|port|canonical"),
        ("example.com/", "made of"),
        ("example.com.", "made of"),
        (".example.com", "made of"),
        ("exa*mple.com", r"a \* must be"),
        ("*.*.example.com", r"a \* must be|made of"),
        ("*.192.0.2.1", "must not be a number"),
        ("-a.example", "made of"),
        (f"{'a' * 64}.example", "63"),
        (".".join(["a" * 60] * 5), "253"),
        ("example.com:0", "port"),
        ("example.com:65536", "port"),
        ("example.com:080", "port"),
        ("example.com:*", "port"),
        ("example.com:", "port"),
        ("192.0.2.01", "canonical"),
        ("2130706433", "canonical"),
        ("127.1", "canonical"),
        ("0x7f.1", "must not be a number"),
        ("0x7f000001", "must not be a number"),
        ("example.0x1", "must not be a number"),
        ("2001:db8:0::1", "2001:db8::1"),
        ("[2001:db8::1", "brackets|\\[address\\]"),
        ("[192.0.2.1]", "\\[address\\]"),
        ("fe80::1%eth0", "canonical"),
        ("user@example.com", "made of"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(text, words):
    with pytest.raises(PatternInvalid, match=words):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "host", "port", "expected"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("api.example.com", "api.example.com", 80, True),
        ("api.example.com", "api.example.com", 8443, False),
        ("api.example.com", "x.api.example.com", 443, False),
        ("api.example.com", "apixexample.com", 443, False),
        ("*.example.org:8443", "a.b.example.org", 8443, True),
        ("*.example.org:8443", "a.example.org", 443, False),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "evilexample.org", 443, False),
        ("*", "anything.example", 443, True),
        ("*", "anything.example", 25, False),
        ("*:25", "mail.example", 25, True),
        ("192.0.2.1", "192.0.2.1", 80, True),
        ("[2001:db8::1]:9000", "2001:db8::1", 9000, True),
        ("2001:db8::1", "2001:db8::1", 443, True),
        ("*.1", "192.0.2.1", 443, None),
    ],
)
def test_a_pattern_is_for_these_hosts_and_ports(pattern, host, port, expected):
    if expected is None:
        with pytest.raises(PatternInvalid):
            parse_pattern(pattern)
        return
    assert parse_pattern(pattern).matches(host, port) is expected


@pytest.mark.parametrize("text", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "[::1%lo]", "::1", "[127.0.0.1]",
                                  "example.com.", "a..b", "", "exa mple", "[::1", "::ffff:127.0.0.1x", "1.2.3.4.",
                                  "[2001:db8:0:0::1]", "ⓔxample.com"])  # fmt: skip
def test_other_spellings_of_a_host_are_refused_before_any_look_up(text):
    with pytest.raises(PatternInvalid):
        parse_host(text)


def test_a_host_is_lower_case_and_without_brackets():
    assert parse_host("EXAMPLE.com") == "example.com"
    assert parse_host("[2001:DB8::1]") == "2001:db8::1"
    assert parse_host("192.0.2.1") == "192.0.2.1"


@given(st.text(max_size=40))
def test_no_text_makes_the_parser_fail_otherwise(text):
    for parse in (parse_pattern, parse_host):
        try:
            found = parse(text)
        except PatternInvalid:
            continue
        assert found


@given(st.ip_addresses())
def test_every_address_is_its_own_pattern_and_no_name(address):
    pattern = parse_pattern(str(address))
    assert pattern.kind == "address"
    assert pattern.matches_host(str(address))
    assert is_address(str(address))
    assert not parse_pattern("*.com").matches_host(str(address))


@given(NAMES)
def test_no_name_is_taken_for_an_address(name):
    assert not is_address(parse_host(name))
    with pytest.raises(ValueError, match=r"does not appear"):
        ipaddress.ip_address(name)


@given(NAMES, NAMES, st.sampled_from(["", ":443", ":8443"]), st.sampled_from(["", ":443", ":8443"]))
def test_what_a_pattern_covers_it_matches(inner, outer, inner_port, outer_port):
    wide = parse_pattern(f"*.{outer}{outer_port}")
    for text in (f"{inner}.{outer}{inner_port}", f"*.{inner}.{outer}{inner_port}", f"{outer}{inner_port}"):
        narrow = parse_pattern(text)
        host = f"x.{narrow.host}" if narrow.kind == "beneath" else narrow.host
        for port in narrow.ports:
            if wide.covers(narrow):
                assert wide.matches(host, port)
    assert wide.covers(parse_pattern(f"{inner}.{outer}{inner_port}")) is (
        parse_pattern(f"x{inner_port}").ports <= wide.ports
    )


def test_coverage_of_stars_and_addresses():
    assert parse_pattern("*").covers(parse_pattern("192.0.2.1"))
    assert not parse_pattern("*.com").covers(parse_pattern("*"))
    assert not parse_pattern("example.com").covers(parse_pattern("*.example.com"))
    assert not parse_pattern("*.example.com").covers(parse_pattern("example.com"))
    assert not parse_pattern("example.com:443").covers(parse_pattern("example.com"))
    assert not parse_pattern("192.0.2.1").covers(parse_pattern("192.0.2.2"))


def test_a_prohibition_without_a_port_is_for_every_port():
    policy = Policy.parse(["*:8443", "*"], ["evil.example", "*.bad.example:8443"])
    for host, port in (("evil.example", 8443), ("evil.example", 443), ("a.bad.example", 8443)):
        with pytest.raises(NotPermitted, match=r"network\.deny has"):
            policy.check(host, port)
    policy.check("a.bad.example", 443)


def test_a_refusal_names_the_rule():
    policy = Policy.parse(["api.example.com:8443"], [])
    with pytest.raises(NotPermitted, match="on port 8443 alone"):
        policy.check("api.example.com", 443)
    with pytest.raises(NotPermitted, match="no pattern"):
        policy.check("other.example", 443)


def test_a_setting_with_a_bad_pattern_is_named_with_the_entry():
    with pytest.raises(ValueError, match=r"EGRESS_ALLOW: entry 2: a part"):
        parse_pattern_list("*.ok.example, bad_.example-", "EGRESS_ALLOW")

"""Whose request it is: a header is believed from those that are trusted, and no further than they."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ratelimit.client_address import client_address, limited_as

TRUSTED = tuple(map(ipaddress.ip_network, ("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48")))


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("127.0.0.1", "198.51.100.1, nonsense", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1:80", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1,,", "127.0.0.1"),
        ("10.0.0.1", "2001:db8:2::7", "2001:db8:2::7"),
        ("2001:db8:1::1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:192.0.2.1", None, "192.0.2.1"),
        ("", "198.51.100.1", "unknown"),
        (None, None, "unknown"),
    ],
)
def test_the_nearest_that_is_not_trusted(remote, forwarded, client):
    assert client_address(remote, forwarded, TRUSTED) == client


def test_nobody_is_trusted_by_default():
    assert client_address("127.0.0.1", "198.51.100.1", ()) == "127.0.0.1"


@given(st.text())
def test_no_header_is_an_accident(forwarded):
    assert client_address("10.0.0.1", forwarded, TRUSTED)
    assert client_address("192.0.2.1", forwarded, TRUSTED) == "192.0.2.1"


def test_a_network_of_ipv6_has_one_bucket():
    assert limited_as("2001:db8::1") == limited_as("2001:db8::ffff:1") != limited_as("2001:db8:0:1::1")
    assert limited_as("192.0.2.1") != limited_as("192.0.2.2")
    assert limited_as("unknown") == "unknown"

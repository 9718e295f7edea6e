"""The written table of refused addresses, and that no form of a refused address passes."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.parsers import parse_networks
from egress.addresses import NEVER, PRIVATE, AddressRules, is_own

RULES = AddressRules()
EVERYTHING = AddressRules(private=parse_networks("0.0.0.0/0,::/0"))


@pytest.mark.parametrize(("network", "reason"), [*NEVER, *PRIVATE])
def test_each_row_of_the_table_is_refused_from_its_first_to_its_last_address(network, reason):
    network = ipaddress.ip_network(network)
    for address in (network[0], network[-1], network[network.num_addresses // 2]):
        assert RULES.refusal(address) is not None, (address, reason)


@pytest.mark.parametrize("network", [network for network, _ in NEVER])
def test_what_is_never_permitted_is_refused_whatever_is_configured(network):
    network = ipaddress.ip_network(network)
    for address in (network[0], network[-1]):
        assert EVERYTHING.refusal(address) is not None


@pytest.mark.parametrize(
    "text",
    [
        "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.169.123", "fd00:ec2::254", "fd00:ec2::23",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd20:ce::254", "::ffff:169.254.169.254",
        "::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1", "::ffff:0:a9fe:a9fe", "fe80::a9fe:a9fe", "2a00:1450::5efe:a9fe:a9fe",
        "2a00:1450::200:5efe:a9fe:a9fe", "::", "::1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1",
    ],
)  # fmt: skip
def test_metadata_and_platform_addresses_are_refused_in_every_form(text):
    assert EVERYTHING.refusal(ipaddress.ip_address(text)) is not None


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "151.101.0.223", "2606:4700::1111", "2a04:4e42::223"])
def test_public_addresses_are_permitted(text):
    assert RULES.refusal(ipaddress.ip_address(text)) is None


def test_an_address_with_a_scope_is_refused():
    assert RULES.refusal(ipaddress.ip_address("2606:4700::1111%1")) is not None


def test_private_networks_are_permitted_by_name_and_denied_ones_win():
    rules = AddressRules(
        private=parse_networks("10.1.0.0/16,fd12::/16"), denied=parse_networks("10.1.2.0/24,8.8.8.0/24")
    )
    assert rules.refusal(ipaddress.ip_address("10.1.1.1")) is None
    assert rules.refusal(ipaddress.ip_address("fd12::1")) is None
    assert rules.refusal(ipaddress.ip_address("10.1.2.1")) == "the service denies it"
    assert rules.refusal(ipaddress.ip_address("8.8.8.8")) == "the service denies it"
    assert rules.refusal(ipaddress.ip_address("10.2.0.1")) == "private"
    assert rules.refusal(ipaddress.ip_address("::ffff:10.1.1.1")) == "IPv4-mapped"


def test_addresses_of_this_machine_are_refused_also_where_their_network_is_permitted():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no route")
        own = ipaddress.ip_address(asked.getsockname()[0])
    assert is_own(own)
    assert AddressRules(private=(ipaddress.ip_network(own),)).refusal(own) is not None
    assert not is_own(ipaddress.ip_address("192.0.2.1"))


@given(st.ip_addresses(v=4))
def test_an_address_is_refused_in_each_ipv6_form_whether_it_is_public_or_not(address):
    number = int(address)
    forms = [
        (0xFFFF << 32) | number,  # mapped
        number,  # compatible
        (0xFFFF << 48) | number,  # translated
        (0x64FF9B << 96) | number,  # NAT64
        (0x64FF9B0001 << 80) | number,  # NAT64 of a local network
        (0x2002 << 112) | (number << 80) | 1,  # 6to4
        (0x20010000 << 96) | (number << 64) | 1,  # Teredo, its server
        (0x20010000 << 96) | (number ^ 0xFFFF_FFFF),  # Teredo, its client
        (0x2A001450 << 96) | (0x5EFE << 32) | number,  # ISATAP
        (0x2A001450 << 96) | (0x02005EFE << 32) | number,
    ]
    for form in forms:
        assert EVERYTHING.refusal(ipaddress.IPv6Address(form)) is not None


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_multicast_or_reserved_is_permitted(address):
    if RULES.refusal(address) is None:
        assert address.is_global
        assert not any((address.is_multicast, address.is_reserved, address.is_loopback, address.is_link_local))

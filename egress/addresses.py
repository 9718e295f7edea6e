"""Refuse addresses that are not public: one written table, and the addresses of this machine.

The table is RFC 6890 with its updates in the IANA registries of special-purpose addresses, every form in which an
IPv6 address holds an IPv4 address, and the addresses at which clouds serve credentials to any client. It is
written out because a library's idea of a public address is another: Python's `is_global` is true for several of
these.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass, field

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Never permitted, with any configuration.
NEVER: tuple[tuple[str, str], ...] = (
    ("169.254.0.0/16", "link-local: the metadata service of most clouds"),
    ("100.100.100.200/32", "the metadata service of Alibaba Cloud"),
    ("168.63.129.16/32", "the platform service of Azure"),
    ("192.0.0.192/32", "the metadata service of Oracle Cloud Classic"),
    ("fd00:ec2::/32", "the metadata service of AWS"),
    ("fd20:ce::254/128", "the metadata service of Google Cloud"),
    ("fd00:c1::a9fe:a9fe/128", "the metadata service of Oracle Cloud"),
    ("fd00:42::42/128", "the metadata service of Scaleway"),
    ("fd00:a9fe:a9fe::1/128", "the metadata service of Linode"),
    ("2001:19f0:fc00::a9fe:a9fe/128", "the metadata service of Vultr"),
    ("fe80::/10", "link-local"),
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved, and broadcast"),
    ("ff00::/8", "multicast"),
    # An IPv4 address in an IPv6 address reaches, or may reach, that IPv4 address.
    ("::/96", "IPv4-compatible"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("::ffff:0:0:0/96", "IPv4-translated (SIIT)"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64 of a local network"),
    ("2001::/32", "Teredo"),
    ("2002::/16", "6to4"),
)

#: Refused unless EGRESS_PRIVATE permits them.
PRIVATE: tuple[tuple[str, str], ...] = (
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared address space of a provider"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "IETF protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "6to4 relays"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("2001::/23", "IETF protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("2620:4f:8000::/48", "AS112"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "private"),
    ("fec0::/10", "site-local"),
    ("100::/64", "discard only"),
)

#: The range that IANA has assigned for public use: all other IPv6 addresses are refused.
GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
#: The third group of four bytes of an ISATAP address; its last four bytes are an IPv4 address (RFC 5214).
ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


def _networks(rows: tuple[tuple[str, str], ...]) -> tuple[tuple[Network, str], ...]:
    return tuple((ipaddress.ip_network(text), reason) for text, reason in rows)


_NEVER = _networks(NEVER)
_PRIVATE = _networks(PRIVATE)


@dataclass(frozen=True, slots=True)
class AddressRules:
    """The addresses that are refused: the table, with the networks of three settings.

    `private` are EGRESS_PRIVATE and `denied` EGRESS_DENY. `own` are addresses of this machine that are permitted:
    the tests' servers are there, and nothing but a test sets it.
    """

    private: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()
    own: tuple[Network, ...] = field(default=())

    def refusal(self, address: Address) -> str | None:
        """Return why an address must not be connected to; None if it may."""
        if getattr(address, "scope_id", None) is not None:
            return "it has a scope"
        if _is_in(address, self.own):
            return None
        if _is_in(address, self.denied):
            return "the service denies it"
        for network, reason in _NEVER:
            if address in network:
                return reason
        if isinstance(address, ipaddress.IPv6Address) and (int(address) >> 32) & 0xFFFF_FFFF in ISATAP:
            return "ISATAP"
        if is_own(address):
            return "it is an address of this machine"
        if _is_in(address, self.private):
            return None
        for network, reason in _PRIVATE:
            if address in network:
                return reason
        if address.version == 6 and address not in GLOBAL_UNICAST_V6:
            return "it is not a public address"
        return None


def is_own(address: Address) -> bool:
    """Return whether the address is one of this machine: the kernel then chooses it as the source, too.

    No packet is sent. An address to which there is no route is not one's own.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        asked.connect((str(address), 9))
        return bool(ipaddress.ip_address(asked.getsockname()[0].partition("%")[0]) == address)
    return False


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)

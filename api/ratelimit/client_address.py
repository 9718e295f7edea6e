"""Find a client's address: that of the connection, or the one that a trusted proxy reports."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Of a chain that is longer the nearest are looked at; nobody has so many proxies.
MOST_HOPS = 32
#: One customer of a provider has at least this much of IPv6.
IPV6_PREFIX = 64
UNKNOWN = "unknown"


def client_address(remote: str | None, forwarded: str | None, trusted: Sequence[Network]) -> str:
    """Return the nearest address that is not a trusted proxy's; `forwarded` is the header `X-Forwarded-For`.

    The header is read from its end, because each proxy appends the address of its peer. Everything before the first
    untrusted address was written by that client, and so was anything that is not an address.
    """
    found = _address(remote or "")
    if found is None:
        return remote or UNKNOWN
    hops = (forwarded or "").split(",")[-MOST_HOPS:]
    while hops and _is_in(found, trusted):
        said = _address(hops.pop().strip())
        if said is None:
            break
        found = said
    return str(found)


def is_proxy(remote: str, trusted: Sequence[Network]) -> bool:
    """Return whether this is the address of a proxy that is believed, behind which there are many clients."""
    found = _address(remote)
    return found is not None and _is_in(found, trusted)


def limited_as(address: str) -> str:
    """Return the name under which an address is limited: for IPv6 its network, since one client has all of it."""
    found = _address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((found, IPV6_PREFIX), strict=False))
    return address


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)

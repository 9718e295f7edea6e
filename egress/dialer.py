"""Connect to a host: look it up, check every address of the answer, and try those in turn (RFC 8305)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from itertools import zip_longest
from typing import TYPE_CHECKING

from config.network_patterns import is_address
from egress.resolver import ResolveFailed, Resolver
from egress.verdicts import Refused

if TYPE_CHECKING:
    from egress.addresses import Address, AddressRules

#: Look-up and connection together.
CONNECT_S = 10.0
#: Between the starts of two tries, where the one before has not failed.
STAGGER_S = 0.25
MAX_TRIES = 6


class Dialer:
    """Opens connections to addresses that the rules do not refuse."""

    def __init__(self, resolver: Resolver, rules: AddressRules) -> None:
        self._resolver = resolver
        self._rules = rules

    async def connect(self, host: str, port: int, *, any_address: bool = False) -> tuple[socket.socket, Address]:
        """Return a connected socket and its address. Raises Refused.

        `any_address` is for the registries of packages, which are often mirrors in a private network: the host is
        looked up as this machine does it, and no address is refused.
        """
        try:
            async with asyncio.timeout(CONNECT_S):
                addresses = await (_addresses_of_machine(host, port) if any_address else self._addresses(host))
                return await _first_of(in_turn(addresses), port)
        except TimeoutError as e:
            raise Refused("unreachable", f"it was not connected within {CONNECT_S:g} s") from e

    async def _addresses(self, host: str) -> list[Address]:
        """Return the addresses of a host, all of which are permitted. One that is not refuses them all."""
        if is_address(host):
            found: list[Address] = [ipaddress.ip_address(host)]
        else:
            try:
                found = await self._resolver.look_up(host)
            except ResolveFailed as e:
                raise Refused("name", str(e)) from e
        for address in found:
            reason = self._rules.refusal(address)
            if reason is not None:
                raise Refused("address", f"{address} is not permitted: {reason}")
        return found


async def _addresses_of_machine(host: str, port: int) -> list[Address]:
    """Return the addresses of a host as this machine resolves it, its own names included. Raises Refused."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as e:
        raise Refused("name", "this machine cannot resolve it") from e
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


def in_turn(addresses: list[Address]) -> list[Address]:
    """Return the addresses to try: each once, IPv6 and IPv4 by turns, and not too many."""
    unique = list(dict.fromkeys(addresses))
    pairs = zip_longest(*([one for one in unique if one.version == version] for version in (6, 4)))
    return [address for pair in pairs for address in pair if address is not None][:MAX_TRIES]


async def _first_of(addresses: list[Address], port: int) -> tuple[socket.socket, Address]:
    """Return the first connection that is made; the other tries are ended."""
    tries: dict[asyncio.Task[socket.socket], Address] = {}
    waiting = list(addresses)
    failure: BaseException | None = None
    try:
        while waiting or tries:
            if waiting:
                address = waiting.pop(0)
                tries[asyncio.create_task(_try(address, port))] = address
            done, _ = await asyncio.wait(
                tries, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                address = tries.pop(task)
                failure = task.exception()
                if failure is None:
                    return task.result(), address
    finally:
        await _end(list(tries))
    words = failure.strerror if isinstance(failure, OSError) and failure.strerror else "no address answers"
    raise Refused("unreachable", words.lower())


async def _try(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(made, (str(address), port))
    except BaseException:
        made.close()
        raise
    return made


async def _end(tries: list[asyncio.Task[socket.socket]]) -> None:
    """End tries that are not needed; one that has connected meanwhile is closed."""
    for task in tries:
        task.cancel()
    for task in tries:
        with contextlib.suppress(asyncio.CancelledError, OSError):
            (await task).close()

"""Look names up in DNS as absolute names: without a search list, the hosts file or NSS.

The servers are those of /etc/resolv.conf, read when the file changes. Each question has a random number and a
socket of its own, so that an answer from elsewhere is not taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from egress.dns_message import (
    NO_ERROR,
    NO_SUCH_NAME,
    TYPE_A,
    TYPE_AAAA,
    DnsAnswer,
    DnsMalformed,
    RecordType,
    build_query,
    encode_name,
    read_answer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.addresses import Address

RESOLV_CONF = Path("/etc/resolv.conf")
DNS_PORT = 53
MAX_SERVERS = 3
#: One try of one server. All tries together end with the time that a connection may take.
TRY_S = 2.0
MAX_DATAGRAM = 4096

Server = tuple[str, int]


class ResolveFailed(Exception):
    """A name has no address, or no server answers; the message is for the client."""


class Resolver:
    """Looks names up at the servers of this machine, or at those that are given."""

    def __init__(self, servers: Sequence[Server] | None = None, *, resolv_conf: Path = RESOLV_CONF) -> None:
        self._given = tuple(servers) if servers else None
        self._path = resolv_conf
        self._read: tuple[int, tuple[Server, ...]] | None = None

    async def look_up(self, name: str) -> list[Address]:
        """Return all addresses of a name, IPv6 first. Raises ResolveFailed."""
        try:
            encode_name(name)
        except DnsMalformed as e:
            raise ResolveFailed(f"the name cannot be looked up: {e}") from e
        answers = await asyncio.gather(self._ask(name, TYPE_AAAA), self._ask(name, TYPE_A), return_exceptions=True)
        found: list[Address] = []
        failure: ResolveFailed | None = None
        for answer in answers:
            if isinstance(answer, DnsAnswer):
                found += answer.addresses
            elif isinstance(answer, ResolveFailed):
                failure = answer
            else:
                raise answer
        # An answer that was not given might have held an address that is refused: a mix must not pass by halves.
        if failure is not None:
            raise failure
        if not found:
            raise ResolveFailed("the name has no address")
        return found

    async def _ask(self, name: str, record_type: RecordType) -> DnsAnswer:
        for server in self._servers():
            with contextlib.suppress(OSError, TimeoutError, DnsMalformed, asyncio.IncompleteReadError):
                async with asyncio.timeout(TRY_S):
                    answer = await _ask_server(server, name, record_type)
                if answer.code == NO_ERROR:
                    return answer
                if answer.code == NO_SUCH_NAME:
                    return DnsAnswer(answer.code, ())
        raise ResolveFailed("no DNS server answers")

    def _servers(self) -> tuple[Server, ...]:
        if self._given is not None:
            return self._given
        try:
            changed = self._path.stat().st_mtime_ns
            if self._read is None or self._read[0] != changed:
                self._read = changed, parse_servers(self._path.read_text())
        except (OSError, ValueError):
            return ()
        return self._read[1]


def parse_servers(text: str) -> tuple[Server, ...]:
    """Return the servers of a resolv.conf; of its other lines none has an effect here."""
    found: list[Server] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(words[1].partition("%")[0])
            found.append((words[1], DNS_PORT))
    return tuple(found[:MAX_SERVERS])


async def _ask_server(server: Server, name: str, record_type: RecordType) -> DnsAnswer:
    identifier = secrets.randbelow(0x10000)
    query = build_query(identifier, name, record_type)
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    loop = asyncio.get_running_loop()
    # Connected, so that the kernel passes on what comes from that server alone.
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as asked:
        asked.connect(server)
        await loop.sock_sendall(asked, query)
        while True:
            data = await loop.sock_recv(asked, MAX_DATAGRAM)
            with contextlib.suppress(DnsMalformed):
                answer = read_answer(data, identifier, name, record_type)
                break
    return await _ask_by_tcp(server, query, name, record_type) if answer.is_truncated else answer


async def _ask_by_tcp(server: Server, query: bytes, name: str, record_type: RecordType) -> DnsAnswer:
    reader, writer = await asyncio.open_connection(*server, limit=0x10000)
    try:
        writer.write(struct.pack(">H", len(query)) + query)
        await writer.drain()
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        data = await reader.readexactly(length)
    finally:
        writer.close()
    (identifier,) = struct.unpack_from(">H", query)
    answer = read_answer(data, identifier, name, record_type)
    if answer.is_truncated:
        raise DnsMalformed("an answer over TCP is truncated")
    return answer

"""A check that the service can listen on an address. Standard library only."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket of this network namespace."""

    address: Address
    port: int
    inode: str


def listening_problem(bind: str, port: str, ours: Iterable[int] = ()) -> str | None:
    """Explain why the service cannot listen there; None if it can, once the processes `ours` have stopped."""
    problem = f"cannot listen on BIND={bind} PORT={port}"
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, int(port)))
        except (ValueError, OverflowError) as e:
            return f"{problem}: {e}"
        except OSError as e:
            return None if _is_taken_by_ours(bind, int(port), ours) else f"{problem}: {e}"
    return None


def _is_taken_by_ours(bind: str, port: int, ours: Iterable[int]) -> bool:
    """Return whether only these processes listen on the address of `bind` and `port`."""
    try:
        wanted = ipaddress.ip_address(socket.getaddrinfo(bind, port)[0][4][0])
    except (OSError, ValueError):
        return False
    inodes = {inode for pid in ours for inode in _sockets(pid)}
    in_the_way = [one for one in _listeners() if one.port == port and _meet(one.address, wanted)]
    return bool(in_the_way) and all(one.inode in inodes for one in in_the_way)


def _meet(one: Address, other: Address) -> bool:
    return one == other or one.is_unspecified or other.is_unspecified


def _listeners() -> Iterator[Listener]:
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN:
                    address, _, port = fields[1].partition(":")
                    yield Listener(_parse(address), int(port, 16), fields[9])


def _parse(text: str) -> Address:
    """Parse an address as /proc/net/tcp shows it: words of 32 bits in the machine's order, in hexadecimal."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return ipaddress.ip_address(b"".join(words))


def _sockets(pid: int) -> Iterator[str]:
    """Return the inodes of a process's sockets."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                kind, _, inode = os.readlink(entry).partition(":")
                if kind == "socket":
                    yield inode.strip("[]")

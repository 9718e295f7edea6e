"""Parse the patterns of hosts that a run may reach, match a host against them, and compare two patterns.

A pattern is a name (`api.example.com`), `*.name` (one label or more in front), `*`, or an address in its canonical
form; `:port` may follow. Without a port a permission is for 80 and 443, and a prohibition for every port.
The api, the worker and the egress process read the same texts with this one parser.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

MAX_PATTERNS = 64
MAX_HOST_LENGTH = 253
MAX_LABEL_LENGTH = 63
DEFAULT_PORTS = frozenset({80, 443})
HIGHEST_PORT = 65_535
#: The forms of a host: all hosts, all names beneath one, one name, one address.
Kind = Literal["any", "beneath", "name", "address"]

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
#: A host that can only be an address, however it is written.
_ADDRESS_LIKE = re.compile(r"[0-9.]+|[0-9a-fA-F.]*:.*")


class PatternInvalid(ValueError):
    """A text that is no pattern; the message describes the error without repeating the text."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern. `host` is the name or the address, empty for `*`; `ports` is None for every port."""

    text: str
    kind: Kind
    host: str
    ports: frozenset[int] | None

    def matches_host(self, host: str) -> bool:
        """Return whether the pattern is for this host: a name in lower case, or an address in canonical form."""
        if self.kind == "any":
            return True
        if self.kind == "beneath":
            return host.endswith("." + self.host) and not is_address(host)
        return host == self.host

    def matches(self, host: str, port: int) -> bool:
        """Return whether the pattern is for this host and port."""
        return (self.ports is None or port in self.ports) and self.matches_host(host)

    def covers(self, other: Pattern) -> bool:
        """Return whether every host and port of the other pattern is one of this pattern's."""
        if self.ports is not None and (other.ports is None or not other.ports <= self.ports):
            return False
        if self.kind == "any":
            return True
        if other.kind == "any":
            return False
        if self.kind == "beneath":
            if other.kind == "beneath":
                return other.host == self.host or other.host.endswith("." + self.host)
            return other.kind == "name" and other.host.endswith("." + self.host)
        return other.kind == self.kind and other.host == self.host


def parse_pattern(text: str, *, is_denied: bool = False) -> Pattern:
    """Parse one pattern. `is_denied` is for a prohibition. Raises PatternInvalid."""
    if not text:
        raise PatternInvalid("must not be empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise PatternInvalid("must be visible ASCII; write an international name as xn--…")
    if text != text.lower():
        raise PatternInvalid("must be in lower case")
    host, port = _split(text)
    ports: frozenset[int] | None = None if is_denied else DEFAULT_PORTS
    if port is not None:
        ports = frozenset({_port(port)})
    if host == "*":
        return Pattern(text, "any", "", ports)
    if host.startswith("*."):
        return Pattern(text, "beneath", _name(host[2:]), ports)
    if "*" in host:
        raise PatternInvalid("a * must be the whole host, or its first label")
    if _ADDRESS_LIKE.fullmatch(host):
        return Pattern(text, "address", _address(host), ports)
    return Pattern(text, "name", _name(host), ports)


def parse_pattern_list(text: str, name: str) -> tuple[Pattern, ...]:
    """Parse the comma-separated patterns of a setting. Raises ValueError that begins with the setting's name."""
    found = []
    for number, entry in enumerate((part.strip() for part in text.split(",") if part.strip()), start=1):
        try:
            found.append(parse_pattern(entry))
        except PatternInvalid as e:
            raise ValueError(f"{name}: entry {number}: {e}") from e
    return tuple(found)


def parse_host(text: str) -> str:
    """Return the host of a request: a name in lower case, or an address in canonical form without brackets.

    Raises PatternInvalid for every other spelling of an address (`0x7f.1`, `2130706433`, `[::1%lo]`) and for what
    is no name.
    """
    if text.startswith("[") != text.endswith("]"):
        raise PatternInvalid("has one bracket")
    is_bracketed = text.startswith("[")
    host = text[1:-1] if is_bracketed else text
    if is_bracketed or _ADDRESS_LIKE.fullmatch(host):
        address = _address(host.lower())
        if is_bracketed != (":" in address):
            raise PatternInvalid("an IPv6 address, and no other host, is written in brackets")
        return address
    return _name(host.lower())


def parse_port(text: str) -> int:
    """Return a port as a plain decimal number. Raises PatternInvalid."""
    return _port(text)


def is_address(host: str) -> bool:
    """Return whether a host that was parsed is an address."""
    return ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def _split(text: str) -> tuple[str, str | None]:
    """Split host and port; an IPv6 address has brackets where a port follows, and may have them otherwise."""
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or ":" not in host or (rest and not rest.startswith(":")):
            raise PatternInvalid("an IPv6 address is written as [address] or [address]:port")
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > HIGHEST_PORT:
        raise PatternInvalid(f"the port must be a number from 1 to {HIGHEST_PORT}")
    return int(text)


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as e:
        raise PatternInvalid("is not an address in its canonical form") from e
    if str(address) != text or "%" in text:
        raise PatternInvalid(f"an address must be written in its canonical form, {str(address).partition('%')[0]}")
    return text


def _name(text: str) -> str:
    if len(text) > MAX_HOST_LENGTH:
        raise PatternInvalid(f"a name has at most {MAX_HOST_LENGTH} characters")
    labels = text.split(".")
    for label in labels:
        if len(label) > MAX_LABEL_LENGTH:
            raise PatternInvalid(f"a part of a name has at most {MAX_LABEL_LENGTH} characters")
        if not _LABEL.fullmatch(label):
            raise PatternInvalid("a part of a name is made of a-z 0-9 _ and, not at its ends, -")
    if _NUMBER.fullmatch(labels[-1]):
        raise PatternInvalid("the last part of a name must not be a number: write an address as 192.0.2.1")
    return text

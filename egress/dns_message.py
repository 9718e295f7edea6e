"""Build a DNS query and read its answer (RFC 1035): the addresses of one absolute name, and nothing else."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final, Literal

from egress.addresses import Address

TYPE_A: Final = 1
TYPE_CNAME: Final = 5
TYPE_AAAA: Final = 28
CLASS_IN = 1
HEADER_BYTES = 12
#: Flags: recursion desired in a query; response, truncated and the error code in an answer.
RECURSION_DESIRED = 0x0100
IS_RESPONSE, IS_TRUNCATED, CODE_MASK = 0x8000, 0x0200, 0x000F
NO_ERROR, NO_SUCH_NAME = 0, 3
MAX_NAME_BYTES = 255
MAX_LABEL_BYTES = 63
POINTER = 0xC0
#: Aliases that are followed, records that are read and addresses that are kept, of one answer.
MAX_ALIASES = 8
MAX_RECORDS = 128
MAX_ADDRESSES = 32

RecordType = Literal[1, 28]


class DnsMalformed(ValueError):
    """Bytes that are no answer to the question that was asked."""


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """The answer to one question. `is_truncated`: it must be asked for again over TCP."""

    code: int
    addresses: tuple[Address, ...]
    is_truncated: bool = False


def build_query(identifier: int, name: str, record_type: RecordType) -> bytes:
    """Return the query for an absolute name, given without its final dot."""
    header = struct.pack(">HHHHHH", identifier, RECURSION_DESIRED, 1, 0, 0, 0)
    return header + encode_name(name) + struct.pack(">HH", record_type, CLASS_IN)


def encode_name(name: str) -> bytes:
    """Return a name in wire form. Raises DnsMalformed for one that has no such form."""
    encoded = b""
    for label in name.encode("ascii").split(b"."):
        if not 0 < len(label) <= MAX_LABEL_BYTES:
            raise DnsMalformed("a label is empty or too long")
        encoded += bytes([len(label)]) + label
    if len(encoded) + 1 > MAX_NAME_BYTES:
        raise DnsMalformed("the name is too long")
    return encoded + b"\0"


def read_answer(data: bytes, identifier: int, name: str, record_type: RecordType) -> DnsAnswer:
    """Read the answer to `build_query` with the same arguments. Raises DnsMalformed.

    Only addresses of the name itself, or of the names that it is an alias of, are taken.
    """
    try:
        return _read(data, identifier, name, record_type)
    except (struct.error, IndexError) as e:
        raise DnsMalformed("the answer is cut short") from e


def _read(data: bytes, identifier: int, name: str, record_type: RecordType) -> DnsAnswer:
    got, flags, questions, answers, _, _ = struct.unpack_from(">HHHHHH", data)
    if got != identifier or not flags & IS_RESPONSE or questions != 1:
        raise DnsMalformed("it answers another question")
    asked, at = _name_at(data, HEADER_BYTES)
    asked_type, asked_class = struct.unpack_from(">HH", data, at)
    wanted = encode_name(name).lower()
    if asked != wanted or (asked_type, asked_class) != (record_type, CLASS_IN):
        raise DnsMalformed("it answers another question")
    if flags & IS_TRUNCATED:
        return DnsAnswer(flags & CODE_MASK, (), is_truncated=True)
    addresses, aliases = _records(data, at + 4, min(answers, MAX_RECORDS), record_type)
    found: list[Address] = []
    for _ in range(MAX_ALIASES + 1):
        found += addresses.get(wanted, [])
        alias = aliases.get(wanted)
        if alias is None:
            break
        wanted = alias
    return DnsAnswer(flags & CODE_MASK, tuple(found[:MAX_ADDRESSES]))


def _records(
    data: bytes, at: int, count: int, record_type: RecordType
) -> tuple[dict[bytes, list[Address]], dict[bytes, bytes]]:
    """Return the addresses and the alias of each name in the answer section."""
    addresses: dict[bytes, list[Address]] = {}
    aliases: dict[bytes, bytes] = {}
    for _ in range(count):
        owner, at = _name_at(data, at)
        kind, record_class, _ttl, length = struct.unpack_from(">HHIH", data, at)
        at += 10
        content = data[at : at + length]
        if len(content) != length:
            raise DnsMalformed("a record is cut short")
        if record_class == CLASS_IN and kind == record_type:
            size = 4 if record_type == TYPE_A else 16
            if length != size:
                raise DnsMalformed("an address has another size")
            address = ipaddress.IPv4Address(content) if size == 4 else ipaddress.IPv6Address(content)
            addresses.setdefault(owner, []).append(address)
        elif record_class == CLASS_IN and kind == TYPE_CNAME:
            aliases[owner], _ = _name_at(data, at)
        at += length
    return addresses, aliases


def _name_at(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the name at a place, in wire form and lower case, and where the bytes behind it begin.

    A pointer must lead towards the front, so that reading ends.
    """
    labels = bytearray()
    end: int | None = None
    limit = len(data)
    while True:
        length = data[at]
        if length & POINTER == POINTER:
            target = (length & 0x3F) << 8 | data[at + 1]
            end = at + 2 if end is None else end
            if target >= min(at, limit):
                raise DnsMalformed("a name points to what is not before it")
            limit = at = target
        elif length > MAX_LABEL_BYTES:
            raise DnsMalformed("a label of an unknown kind")
        else:
            label = data[at : at + length + 1]
            if len(label) != length + 1 or len(labels) + length + 1 > MAX_NAME_BYTES:
                raise DnsMalformed("a name is too long")
            labels += label
            at += length + 1
            if length == 0:
                return bytes(labels).lower(), at if end is None else end

"""The packed form of a layer, in which it is stored in S3: a head, then its entries as a builder sends them.

The head is JSON behind four bytes of its length. Any account that can write to the bucket may have written both, so
they are checked as what a builder sends: each number has its bound, and each entry its place.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from sandbox.frames import ProtocolError, pack
from sandbox.layers.entry import DIRECTORY, FILE, LINK
from sandbox.layers.facts import LockedPackage
from sandbox.layers.parser import LENGTH_BYTES, LayerParser
from sandbox.layers.steps import read_packages

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.layers.facts import LayerFacts
    from sandbox.layers.writer import LayerWriter

#: Increase it with every change of the form: a layer in another form is built again.
FORMAT = 1
#: More than the longest report of a build has.
MAX_HEAD_BYTES = 8 << 20
CHUNK_BYTES = 256 * 1024
END = bytes(LENGTH_BYTES)
_ID = re.compile(r"lay_[A-Za-z0-9]{28}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PackedHead:
    """The facts of a packed layer. `sha256` is that of its tree, `created_at` in seconds since 1970."""

    id: str
    image: str
    request: tuple[str, ...]
    packages: tuple[LockedPackage, ...]
    sha256: str
    created_at: float
    is_shared: bool

    @classmethod
    def of(cls, facts: LayerFacts) -> PackedHead:
        """Return the head of a layer with these facts."""
        return cls(*(getattr(facts, field.name) for field in fields(cls)))


def pack_layer(head: PackedHead, files: Path) -> Iterator[bytes]:
    """Yield the packed form of the layer whose files are in a directory that nobody changes. Raises OSError."""
    packages = [[one.name, one.version, one.sha256] for one in head.packages]
    text = json.dumps(asdict(head) | {"format": FORMAT, "packages": packages}).encode()
    yield len(text).to_bytes(LENGTH_BYTES, "big") + text
    yield from _pack_directory(os.fsencode(files), b"")
    yield END


class PackedReader:
    """Reads a packed layer: its head first, then its entries. The methods raise ProtocolError."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def head(self) -> PackedHead:
        """Read the head."""
        length = int.from_bytes(self._take(LENGTH_BYTES), "big")
        if length > MAX_HEAD_BYTES:
            raise ProtocolError("the head of a packed layer is too long")
        return _parse_head(self._take(length))

    def entries(self, writer: LayerWriter, places: tuple[bytes, ...]) -> None:
        """Write all entries, none of which lies outside of `places`. Raises what the writer does, too."""
        parser = LayerParser(writer, places)
        parser.feed(self._held)
        for piece in self._pieces:
            parser.feed(piece)
        if not parser.is_complete:
            raise ProtocolError("a packed layer without its end")

    def _take(self, size: int) -> bytes:
        parts = [self._held]
        missing = size - len(self._held)
        while missing > 0:
            piece = next(self._pieces, None)
            if piece is None:
                raise ProtocolError("a packed layer is too short")
            parts.append(piece)
            missing -= len(piece)
        whole = b"".join(parts)
        self._held = whole[size:]
        return whole[:size]


def _parse_head(text: bytes) -> PackedHead:
    try:
        found: dict[str, Any] = json.loads(text)
        if found["format"] != FORMAT:
            raise ProtocolError("a packed layer has another form")
        packages = read_packages(json.dumps(found["packages"]).encode())
        request, created_at = found["request"], float(found["created_at"])
        head = PackedHead(
            found["id"], found["image"], tuple(request), packages, found["sha256"], created_at, found["is_shared"]
        )
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise ProtocolError("the head of a packed layer cannot be read") from e
    texts = (head.id, head.image, head.sha256, *head.request)
    if not all(isinstance(one, str) for one in texts) or type(head.is_shared) is not bool:
        raise ProtocolError("the head of a packed layer cannot be read")
    if not _ID.fullmatch(head.id) or not _SHA256.fullmatch(head.sha256) or not 0 <= created_at < math.inf:
        raise ProtocolError("the head of a packed layer cannot be read")
    return head


def _pack_directory(place: bytes, path: bytes) -> Iterator[bytes]:
    """Yield what lies in a directory; entries are no deeper than `MAX_DEPTH`, since they were checked."""
    for name in sorted(os.listdir(place)):
        at, within = place + b"/" + name, path + b"/" + name if path else name
        found = os.lstat(at)
        mode = b"%o" % stat.S_IMODE(found.st_mode)
        if stat.S_ISDIR(found.st_mode):
            yield _entry(DIRECTORY, within, mode)
            yield from _pack_directory(at, within)
        elif stat.S_ISLNK(found.st_mode):
            yield _entry(LINK, within, mode, target=os.readlink(at))
        else:
            yield _entry(FILE, within, mode, found.st_size)
            yield from _content(at, found.st_size)


def _entry(kind: bytes, path: bytes, mode: bytes, size: int = 0, target: bytes = b"") -> bytes:
    packed = pack([kind, path, mode, b"%d" % size, target])
    return len(packed).to_bytes(LENGTH_BYTES, "big") + packed


def _content(at: bytes, size: int) -> Iterator[bytes]:
    fd = os.open(at, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        while size:
            data = file.read(min(size, CHUNK_BYTES))
            if not data:
                raise OSError("a file of a layer became shorter")
            yield data
            size -= len(data)

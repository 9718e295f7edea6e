"""The archive's form: written as a stream, and read as something that anybody may have made.

Headers are written and read one by one with `tarfile.TarInfo`: its own reader would follow extensions of the format
(long names, links, sparse files) before they could be refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

FORMAT = 1
ABOUT, SUMS = "format.json", "sums.json"
DATABASE = "db/runyard.sqlite"
SETTINGS = ("environment", "runyard.toml", "runyard.yaml", "runyard.yml")
SMALL = frozenset({"api/signing.key", "api/instance", *(f"settings/{name}" for name in SETTINGS)})
BLOB = re.compile(r"storage/(uploads|artifacts)/([0-9a-f]{64})")
CHUNK_BYTES = 1024 * 1024
#: More than the description of a backup or a file of SMALL can be; of the sums, those of some million blobs.
MAX_SMALL_BYTES, MAX_SUMS_BYTES = 1024 * 1024, 512 * 1024 * 1024
#: The longest text in a description.
MAX_WORD = 40

NO_BACKUP = "the file is no backup"
CUT_OFF = "the file is damaged: its end is missing"


class BackupError(Exception):
    """A backup cannot be made or restored. The message is the sentence to show."""


@dataclass
class ArchiveWriter:
    """Writes members one after the other, and their sums at the end."""

    out: IO[bytes]
    _sums: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, name: str, source: IO[bytes], size: int) -> str:
        """Write `size` bytes of `source` as a member; their SHA-256. Raises BackupError if there are fewer."""
        digest = self._write(name, source, size)
        self._sums[name] = [size, digest]
        return digest

    def add_text(self, name: str, text: bytes) -> None:
        """Write a short member."""
        self.add(name, io.BytesIO(text), len(text))

    def close(self) -> None:
        """Write the sums and the end. Without it, what was written is no archive."""
        text = json.dumps(self._sums, separators=(",", ":")).encode()
        self._write(SUMS, io.BytesIO(text), len(text))
        self.out.write(bytes(2 * tarfile.BLOCKSIZE))
        self.out.flush()

    def _write(self, name: str, source: IO[bytes], size: int) -> str:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        self.out.write(info.tobuf(tarfile.GNU_FORMAT))
        hashing, left = hashlib.sha256(), size
        while left:
            piece = source.read(min(left, CHUNK_BYTES))
            if not piece:
                raise BackupError(f"{name} became shorter while it was read")
            hashing.update(piece)
            self.out.write(piece)
            left -= len(piece)
        self.out.write(bytes(-size % tarfile.BLOCKSIZE))
        return hashing.hexdigest()


@dataclass(frozen=True)
class BackupInfo:
    """The description of a backup in its archive."""

    version: str
    revision: str
    created_at: str


class Member:
    """One file of an archive, to be read once and completely."""

    def __init__(self, source: IO[bytes], name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._source = source
        self._hash = hashlib.sha256()
        self._left = size

    def pieces(self) -> Iterator[bytes]:
        """Return the bytes. Raises BackupError if the archive ends before."""
        while self._left:
            piece = self._source.read(min(self._left, CHUNK_BYTES))
            if not piece:
                raise BackupError(CUT_OFF)
            self._hash.update(piece)
            self._left -= len(piece)
            yield piece
        _exactly(self._source, -self.size % tarfile.BLOCKSIZE)

    def text(self, most: int) -> bytes:
        """Return the bytes of a member that is no longer than `most`."""
        if self.size > most:
            raise BackupError(f"{NO_BACKUP}: {self.name} is longer than {most} bytes")
        return b"".join(self.pieces())

    def digest(self) -> str:
        """Return the SHA-256 of what was read."""
        return self._hash.hexdigest()


def read_archive(
    source: IO[bytes], accept: Callable[[BackupInfo], None], place: Callable[[Member], None]
) -> BackupInfo:
    """Read an archive from its beginning to its end.

    `accept` is called first, and may raise. `place` is called for each member, and must read it; it is given only
    the database, names of SMALL and of blobs, each once. Use the placed files only if this returns.
    Raises BackupError for a file that is not an archive as ArchiveWriter makes it.
    """
    members = _members(source)
    first = next(members, None)
    if first is None or first.name != ABOUT:
        raise BackupError(f"{NO_BACKUP}: it does not begin with {ABOUT}")
    about = _about(first)
    accept(about)
    found = {first.name: [first.size, first.digest()]}
    for member in members:
        if member.name == SUMS:
            return _checked(about, found, member)
        if member.name in found:
            raise BackupError(f"{NO_BACKUP}: {member.name} is there twice")
        if member.name in SMALL and member.size > MAX_SMALL_BYTES:
            raise BackupError(f"{NO_BACKUP}: {member.name} is longer than {MAX_SMALL_BYTES} bytes")
        place(member)
        found[member.name] = [member.size, member.digest()]
        blob = BLOB.fullmatch(member.name)
        if blob and blob.group(2) != member.digest():
            raise BackupError(f"the file is damaged: {member.name} does not match the hash in its name")
    raise BackupError(CUT_OFF)


def _members(source: IO[bytes]) -> Iterator[Member]:
    while True:
        header = _exactly(source, tarfile.BLOCKSIZE)
        if not any(header):
            return
        try:
            info = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeError, ValueError) as e:
            raise BackupError(f"{NO_BACKUP}, or it is damaged: it is not a tar file of this service") from e
        shown = ascii(info.name[:100])
        if info.type != tarfile.REGTYPE or info.linkname or info.size < 0:
            raise BackupError(f"{NO_BACKUP}: {shown} is not a regular file")
        if info.name not in {ABOUT, SUMS, DATABASE} | SMALL and not BLOB.fullmatch(info.name):
            raise BackupError(f"{NO_BACKUP}: {shown} is no part of one")
        yield Member(source, info.name, info.size)


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise BackupError(CUT_OFF if data else f"{CUT_OFF}, or it is empty")
    return data


def _about(member: Member) -> BackupInfo:
    said = _object(member, MAX_SMALL_BYTES)
    number = said.get("format")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise BackupError(f"{NO_BACKUP}: it does not state its format")
    if number > FORMAT:
        version = ascii(str(said.get("version", "unknown"))[:MAX_WORD])
        raise BackupError(
            f"the backup has format {number}, of version {version}; this version reads formats up to {FORMAT}: "
            "install that version or a newer one, then restore"
        )
    words = [said.get(name) for name in ("version", "revision", "created_at")]
    if not all(isinstance(word, str) and word.isascii() and len(word) <= MAX_WORD for word in words):
        raise BackupError(f"{NO_BACKUP}: its description is incomplete")
    return BackupInfo(*map(str, words))


def _checked(about: BackupInfo, found: dict[str, list[Any]], member: Member) -> BackupInfo:
    sums = _object(member, MAX_SUMS_BYTES)
    wrong = sorted(name for name in set(sums) | set(found) if sums.get(name) != found.get(name))
    if wrong:
        raise BackupError(f"the file is damaged: {wrong[0][:100]!a} is not as it was saved")
    if DATABASE not in found:
        raise BackupError(f"{NO_BACKUP}: it has no records in it")
    return about


def _object(member: Member, most: int) -> dict[str, Any]:
    try:
        said = json.loads(member.text(most))
    except (ValueError, RecursionError) as e:
        raise BackupError(f"{NO_BACKUP}, or it is damaged: {member.name} is not JSON") from e
    if not isinstance(said, dict):
        raise BackupError(f"{NO_BACKUP}: {member.name} is not a JSON object")
    return said

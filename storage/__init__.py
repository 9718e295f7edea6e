"""Blobs: bytes kept under their SHA-256, on this machine or in S3, and the links that lead to them.

**Theory of operation.** A blob is written through a `Writer`, which counts and hashes; it becomes visible
whole, under its hash, by `commit`, or not at all. Nothing here knows names, owners or runs: `records` does, and
decides by hash what is still wanted. Two areas, each written by one party alone: *uploads* by api, *artifacts*
by the worker. The other party holds a `BlobReader`, and takes what it reads for hostile.

**Deleting.** The same bytes may be stored a second time while the last record of the first is being deleted.
Storing a blob that is there renews its age, and `delete` leaves alone what is younger than a grace; so a blob
that was committed but whose record is not yet written survives. An orphan that was spared is removed by the
next `sweep`.

**Reading.** The caller gives the expected hash and size. The wrong size is refused before the first
byte. A whole blob is hashed on its way out and its last piece is held back until the hash is right, so that
damaged bytes never arrive complete. A part of a blob is checked by size alone.

The modules: `local` and `s3` are the stores, `areas` assigns them to the processes; `intake` and `content` are
shared code for writing and reading; `beneath` and `layout` are about directories that others can
write; `sweep` removes orphans; `links` and `signing` are signed links; `download`, `ranges`, `names` and
`media_types` are what a reply with a file needs, without HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from config.pieces import PIECE_BYTES

SHA256 = re.compile(r"[0-9a-f]{64}")
#: The age in seconds below which `delete` spares a blob: more than the time from its storage to its record.
GRACE_S = 60.0
#: Bytes handed over at once, on every way in and out.
CHUNK_BYTES = PIECE_BYTES


@dataclass(frozen=True, slots=True)
class Blob:
    """The reference to stored bytes in a record: their SHA-256 in lower-case hexadecimal, and their number.

    Raises ValueError for anything else, so a hash from outside cannot become a path.
    """

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256) or self.size < 0:
            raise ValueError("not a SHA-256 in lower-case hexadecimal with a size")


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob that is there, and the seconds since it was last stored."""

    blob: Blob
    age_s: float


class Content(Protocol):
    """Bytes of a blob on their way out: an iterator of pieces that must be closed, itself a context manager.

    While iterating: BlobDamaged when the bytes are not those of the hash (the last piece is then never given),
    StorageUnavailable when reading fails.
    """

    @property
    def blob(self) -> Blob: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def __next__(self) -> bytes: ...

    def close(self) -> None:
        """Release all resources; may be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Writer(Protocol):
    """Bytes on their way in. As a context manager it aborts what was not committed. For one thread at a time."""

    @property
    def size(self) -> int:
        """Return the bytes written so far."""

    @property
    def head(self) -> bytes:
        """Return the first bytes (up to `intake.HEAD_BYTES`), enough to detect the file's type."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take more bytes. Raises BlobTooLarge, StorageFull or StorageUnavailable; then all of it is gone."""

    def commit(self) -> Blob:
        """Make the blob visible and durable. Raises StorageFull or StorageUnavailable; then nothing is there."""

    def abort(self) -> None:
        """Forget the bytes. Does nothing after `commit` or a second time."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlobReader(Protocol):
    """The reading half of a store. All methods may be called by many threads."""

    def open(self, blob: Blob, offset: int = 0, length: int | None = None) -> Content:
        """Return the bytes from `offset`, `length` of them or to the end. The caller closes it.

        The first piece is fetched at once, so a blob of one piece is judged before this returns. Raises
        BlobMissing, BlobDamaged or StorageUnavailable; ValueError beyond the blob's end.
        """

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return the size and age of a stored blob, or None. Raises StorageUnavailable."""

    def stored(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no order; what is stored or deleted meanwhile may or may not be among them.

        Raises StorageUnavailable.
        """

    def presigned(self, blob: Blob, headers: dict[str, str], ttl_s: int) -> str | None:
        """Return an address at which the client may fetch the blob itself; None where api must send it.

        The store answers there with `headers`, `Content-Type` and `Content-Disposition`. The address is a bearer
        secret, and the bytes are not verified on their way.
        """

    def check(self) -> None:
        """Check that the store answers; cheap enough for a readiness check. Raises StorageUnavailable."""


class BlobStore(BlobReader, Protocol):
    """A store whose only writer is this party."""

    def writer(self, max_bytes: int) -> Writer:
        """Begin a blob of at most `max_bytes`. Raises StorageUnavailable."""

    def put(self, pieces: Iterable[bytes], max_bytes: int) -> Blob:
        """Store all pieces as one blob; one of exactly `max_bytes` is accepted.

        Raises BlobTooLarge, StorageFull, StorageUnavailable, and what the iterable raises; then nothing is
        stored.
        """
        with self.writer(max_bytes) as writer:
            for piece in pieces:
                writer.write(piece)
            return writer.commit()

    def delete(self, sha256: str, grace_s: float = GRACE_S) -> bool:
        """Delete a blob that no record names, unless it was stored within the last `grace_s` seconds.

        True if it is not there any more; False if it was spared. Raises StorageUnavailable.
        """

    def clean(self) -> int:
        """Remove unfinished blobs of killed writers. Returns their number. Raises StorageUnavailable."""

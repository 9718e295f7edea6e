"""Removing blobs that no record names: what a crash between blob and record, or a spared deletion, has left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from storage import BlobInfo, BlobReader, BlobStore

#: Older than any upload or run that is still on its way to its record.
ORPHAN_AGE_S = 24 * 3600.0
#: Hashes asked about at once.
BATCH = 500

#: Of these hashes, those that a record names.
InUse = Callable[[Sequence[str]], Collection[str]]


@dataclass(frozen=True, slots=True)
class Swept:
    """The result of a sweep."""

    blobs: int
    size: int
    unfinished: int


def orphans(reader: BlobReader, in_use: InUse, age_s: float = ORPHAN_AGE_S) -> Iterator[BlobInfo]:
    """Yield blobs that are `age_s` old or older and that no record names.

    It needs no right to delete: api uses it to find the worker's orphans, and the worker deletes them.
    """
    old = (stored for stored in reader.stored() if stored.age_s >= age_s)
    while batch := list(islice(old, BATCH)):
        kept = set(in_use([stored.blob.sha256 for stored in batch]))
        yield from (stored for stored in batch if stored.blob.sha256 not in kept)


def sweep(store: BlobStore, in_use: InUse, age_s: float = ORPHAN_AGE_S) -> Swept:
    """Delete orphans and the remains of killed writers. Raises StorageUnavailable, possibly after a part."""
    unfinished = store.clean()
    blobs = size = 0
    for orphan in orphans(store, in_use, age_s):
        if store.delete(orphan.blob.sha256, age_s):
            blobs += 1
            size += orphan.blob.size
    return Swept(blobs, size, unfinished)

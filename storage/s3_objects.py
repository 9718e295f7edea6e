"""Objects in S3 by name. Unlike a blob, one may be replaced, and its name is not the hash of its bytes.

Their reader must check the bytes. Nothing is gathered on this machine first: pieces are sent as they are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.s3 import PAGE_KEYS, TRANSFER, abort_abandoned, age_s, pieces_of, translated

if TYPE_CHECKING:
    from storage.s3 import S3Location

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(?:[./][a-z0-9][a-z0-9_-]*)*")
MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object that is there, its size in bytes, and the seconds since it was written."""

    name: str
    size: int
    age_s: float


class S3Objects:
    """The objects beneath one prefix. Every method may be called by many threads."""

    def __init__(self, place: S3Location) -> None:
        self._place = place
        self._client = place.client

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write an object whole, in place of one of that name.

        Raises StorageUnavailable, and what the iterable raises; then the object is as it was.
        """
        with translated():
            self._client.upload_fileobj(_Reader(pieces), **self._key(name), Config=TRANSFER)

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Yield the bytes of an object, piece by piece. Raises BlobMissing or StorageUnavailable."""
        with translated(name):
            found = self._client.get_object(**self._key(name))
        with closing(found["Body"]) as body:
            yield pieces_of(body, int(found["ContentLength"]))

    def listed(self, prefix: str = "", most: int | None = None) -> Iterator[ObjectInfo]:
        """Yield the objects whose names begin so, sorted by name, at most `most`. Raises StorageUnavailable."""
        size = PAGE_KEYS if most is None else min(most, PAGE_KEYS)
        with translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._place.bucket,
                Prefix=self._place.prefix + prefix,
                PaginationConfig={"PageSize": size, "MaxItems": most},
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(self._place.prefix)
                    yield ObjectInfo(name, entry["Size"], age_s(page, entry["LastModified"]))

    def delete(self, name: str) -> None:
        """Delete an object, if it is there. Raises StorageUnavailable."""
        with translated():
            self._client.delete_object(**self._key(name))

    def clean(self) -> int:
        """Remove the parts of uploads that were begun long ago; their number. Raises StorageUnavailable."""
        return abort_abandoned(self._place)

    def _key(self, name: str) -> dict[str, str]:
        if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
            raise ValueError("not the name of an object")
        return {"Bucket": self._place.bucket, "Key": self._place.prefix + name}


class _Reader:
    """Pieces as a file that can be read once, which boto3 sends part by part."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = bytearray()

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes: fewer only at the end."""
        while size < 0 or len(self._held) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held += piece
        found = bytes(self._held if size < 0 else self._held[:size])
        del self._held[: len(found)]
        return found

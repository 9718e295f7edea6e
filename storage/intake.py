"""The base of every Writer: received bytes are counted against a cap and hashed, and their first ones kept."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Self

from storage import Blob
from storage.errors import BlobTooLarge

#: Enough for every signature in `media_types`.
HEAD_BYTES = 512


class WriterBase:
    """The part of a Writer that is the same for every store; a store fills in the three verbs.

    Before a method raises, the bytes are released: a failed Writer holds nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._open = True
        self.size = 0

    @property
    def head(self) -> bytes:
        """Return the first bytes."""
        return bytes(self._head)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take more bytes."""
        self._must_be_open()
        view = memoryview(data).cast("B")
        if self.size + len(view) > self._max_bytes:
            self.abort()
            raise BlobTooLarge(self._max_bytes)
        try:
            self._take(view)
        except BaseException:
            self.abort()
            raise
        self._digest.update(view)
        self.size += len(view)
        if len(self._head) < HEAD_BYTES:
            self._head += view[: HEAD_BYTES - len(self._head)]

    def commit(self) -> Blob:
        """Make the blob visible."""
        self._must_be_open()
        blob = Blob(self._digest.hexdigest(), self.size)
        try:
            self._publish(blob)
        except BaseException:
            self.abort()
            raise
        self._open = False
        return blob

    def abort(self) -> None:
        """Release the bytes, once."""
        if self._open:
            self._open = False
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def __del__(self) -> None:
        self.abort()

    def _must_be_open(self) -> None:
        if not self._open:
            raise ValueError("the writer has been committed or aborted")

    def _take(self, view: memoryview) -> None:
        raise NotImplementedError

    def _publish(self, blob: Blob) -> None:
        raise NotImplementedError

    def _discard(self) -> None:
        raise NotImplementedError

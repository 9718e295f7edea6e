"""Bytes on their way out, checked against the hash that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from storage import Blob
from storage.errors import BlobDamaged

SHORT = "ends before its size"
OTHER_BYTES = "holds other bytes than were stored"


def span(blob: Blob, offset: int, length: int | None) -> int:
    """Return how many bytes are asked for. Raises ValueError for a part that the blob does not have."""
    wanted = blob.size - offset if length is None else length
    if offset < 0 or wanted < 0 or offset + wanted > blob.size:
        raise ValueError(f"no {wanted} bytes at {offset} in a blob of {blob.size}")
    return wanted


class VerifyingReader:
    """Pieces as a store reads them, one held back until it is known whether all of them were right."""

    def __init__(self, blob: Blob, length: int, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
        """`pieces` gives the bytes asked for, no empty one; `close` frees what they come from."""
        self.blob = blob
        self._missing = length
        # Of a part only the number of bytes can be checked.
        self._digest = hashlib.sha256() if length == blob.size else None
        self._pieces = pieces
        self._close: Callable[[], None] | None = close
        self._held: bytes | None = None
        self._ready: bytes | None = None

    def begin(self) -> Self:
        """Fetch the first piece now, so that an error of a small blob is raised before the reply begins.

        Raises the exceptions of the iteration, after releasing everything.
        """
        self._ready = next(self, None)
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._ready is not None:
            ready, self._ready = self._ready, None
            return ready
        if self._close is None:
            raise StopIteration
        try:
            given = self._held if self._held is not None else self._read()
            self._held = self._read() if given is not None else None
        except BaseException:
            self._free()
            raise
        if self._held is None:
            self._free()
        if given is None:
            raise StopIteration
        return given

    def close(self) -> None:
        """Release everything; may be called twice."""
        self._ready = self._held = None
        self._free()

    def _free(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _read(self) -> bytes | None:
        """Return the next piece; None after the last, when size and hash have been checked."""
        piece = next(self._pieces, None)
        if piece is None:
            self._judge()
            return None
        self._missing -= len(piece)
        if self._missing < 0:
            raise BlobDamaged(self.blob.sha256, OTHER_BYTES)
        if self._digest is not None:
            self._digest.update(piece)
        return piece

    def _judge(self) -> None:
        if self._missing:
            raise BlobDamaged(self.blob.sha256, SHORT)
        if self._digest is not None and self._digest.hexdigest() != self.blob.sha256:
            raise BlobDamaged(self.blob.sha256, OTHER_BYTES)

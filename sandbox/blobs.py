"""The blobs of one worker's runs: artifacts that it writes, and inputs, which are checked as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from protocol.job import JobInput
from sandbox.programs import KeptPrograms
from storage import Blob, Content, Writer
from storage.areas import WorkerAreas


class BlobWriter(Protocol):
    """The destination of the bytes of artifacts and large outputs."""

    def writer(self, max_bytes: int) -> Writer:
        """Begin a blob of at most `max_bytes`. Raises StorageUnavailable."""


class RunStorage:
    """The storage operations of a run."""

    def __init__(self, areas: WorkerAreas) -> None:
        self._areas = areas
        self._programs = KeptPrograms()

    def writer(self, max_bytes: int) -> Writer:
        """Begin an artifact. Raises StorageUnavailable."""
        return self._areas.artifacts.writer(max_bytes)

    def open_input(self, item: JobInput) -> Content:
        """Open the bytes of an input. Reading raises BlobDamaged for a wrong size or hash. Raises StorageError."""
        area = self._areas.uploads if item.area == "upload" else self._areas.artifacts
        return area.open(Blob(item.sha256, item.size))

    def program(self, item: JobInput) -> Iterator[bytes]:
        """Yield the bytes of a compiled function, from memory if it was used before. Raises StorageError."""
        kept = self._programs.get(item.sha256)
        if kept is not None:
            yield from kept
            return
        pieces: list[bytes] = []
        with self.open_input(item) as content:
            for piece in content:
                if self._programs.may_keep(item.size):
                    pieces.append(piece)
                yield piece
        if pieces:
            self._programs.keep(item.sha256, tuple(pieces))

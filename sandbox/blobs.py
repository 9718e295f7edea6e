"""The blobs of one worker's runs: artifacts that it writes, and inputs, which are checked as they are read."""

from __future__ import annotations

from typing import Protocol

from protocol.job import JobInput
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

    def writer(self, max_bytes: int) -> Writer:
        """Begin an artifact. Raises StorageUnavailable."""
        return self._areas.artifacts.writer(max_bytes)

    def open_input(self, item: JobInput) -> Content:
        """Open the bytes of an input. Reading raises BlobDamaged for a wrong size or hash. Raises StorageError."""
        area = self._areas.uploads if item.area == "upload" else self._areas.artifacts
        return area.open(Blob(item.sha256, item.size))

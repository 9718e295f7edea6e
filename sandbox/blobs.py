"""The blobs of one worker's runs: artifacts it writes, inputs it reads and believes nothing of."""

from __future__ import annotations

from protocol.job import JobInput
from storage import Blob, Content, Writer
from storage.areas import WorkerAreas


class RunBlobs:
    """What a conversation needs of storage."""

    def __init__(self, areas: WorkerAreas) -> None:
        self._areas = areas

    def writer(self, max_bytes: int) -> Writer:
        """Begin an artifact. Raises StorageUnavailable."""
        return self._areas.artifacts.writer(max_bytes)

    def open_input(self, item: JobInput) -> Content:
        """The bytes of an input: of another size or hash they raise BlobDamaged. Raises StorageError."""
        area = self._areas.uploads if item.area == "upload" else self._areas.artifacts
        return area.open(Blob(item.sha256, item.size))

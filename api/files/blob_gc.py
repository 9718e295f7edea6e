"""Removes blobs from storage that no file references any more. `records.retention` deletes expired files.

Two passes: every minute over what the records have written down as left by its last file, and every hour over the
whole store, for what a crash between blob and record has left. Uploads are removed here; artifacts by the worker,
which alone may write where they are. Both spare what was stored again a moment ago.
"""

from __future__ import annotations

import logging
import time
from itertools import islice
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

from dispatch import WorkerUnavailable
from records.errors import RecordsUnavailable
from records.files import StoredBlob
from storage.errors import StorageUnavailable
from storage.sweep import ORPHAN_AGE_S, orphans, sweep

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from records.files import Area, FileStore
    from storage.areas import ApiAreas

log = logging.getLogger(__name__)

SWEEP_S = 60.0
ORPHANS_S = 3600.0
STOP_WITHIN_S = 10.0
#: Longer than any run's artifacts are on their way from the store to their record.
UNREFERENCED_MS = 120_000
#: Blobs of one pass, and hashes in one message to the worker.
BATCH = 500
TOLD_AT_ONCE = 100


class BlobDeleter(Protocol):
    """An object that can delete artifacts: `dispatch.Dispatcher`."""

    def forget(self, hashes: Sequence[str]) -> list[str]:
        """Have the blobs of these artifacts removed; those that are gone. Raises WorkerUnavailable."""


class BlobCollector:
    """The two passes, and a thread that makes them. To be started after a fork."""

    def __init__(
        self, files: FileStore, storage: ApiAreas, worker: BlobDeleter, *, orphan_age_s: float = ORPHAN_AGE_S
    ) -> None:
        self._files = files
        self._storage = storage
        self._worker = worker
        self._orphan_age_s = orphan_age_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name="file-keeper", daemon=True)

    def start(self) -> None:
        """Begin, with a pass at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait a while for what it is removing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    def delete_unreferenced(self, now_ms: int) -> int:
        """Remove the blobs that their last file has left; how many.

        Raises RecordsUnavailable, StorageUnavailable or WorkerUnavailable, having done a part.
        """
        removed, more = 0, True
        while more and not self._stop.is_set():
            found = self._files.unreferenced(before_ms=now_ms - UNREFERENCED_MS, limit=BATCH)
            uploads = [blob for blob in found if blob.area == "upload"]
            gone = [blob for blob in uploads if self._storage.uploads.delete(blob.sha256)]
            self._files.delete_rows(gone)
            removed += len(gone)
            artifacts = [blob.sha256 for blob in found if blob.area == "artifact"]
            removed += (forgotten := self._forget(artifacts))
            # Those that were spared come again at the next pass.
            more = len(found) == BATCH and len(gone) + forgotten > 0
        return removed

    def delete_orphans(self) -> int:
        """Remove old blobs that no record knows of; how many. Raises as `delete_unreferenced` does."""
        removed = sweep(
            self._storage.uploads, lambda found: self._in_use("upload", found), self._orphan_age_s
        ).blobs
        found = orphans(self._storage.artifacts, lambda found: self._in_use("artifact", found), self._orphan_age_s)
        while some := [stored.blob.sha256 for stored in islice(found, BATCH)]:
            removed += self._forget(some)
        return removed

    def _forget(self, artifacts: list[str]) -> int:
        count = 0
        for start in range(0, len(artifacts), TOLD_AT_ONCE):
            gone = self._worker.forget(artifacts[start : start + TOLD_AT_ONCE])
            self._files.delete_rows([StoredBlob("artifact", sha256) for sha256 in gone])
            count += len(gone)
        return count

    def _in_use(self, area: Area, hashes: Sequence[str]) -> Collection[str]:
        return {blob.sha256 for blob in self._files.in_use(StoredBlob(area, sha256) for sha256 in hashes)}

    def _run(self) -> None:
        next_orphans = time.monotonic()
        while not self._stop.is_set():
            try:
                removed = self.delete_unreferenced(time.time_ns() // 1_000_000)
                if time.monotonic() >= next_orphans:
                    removed += self.delete_orphans()
                    next_orphans = time.monotonic() + ORPHANS_S
                if removed:
                    log.info("removed blobs that no file names", extra={"blobs": removed})
            except (RecordsUnavailable, StorageUnavailable, WorkerUnavailable) as e:
                log.warning("removing blobs has to wait: %s", e)
            except Exception:
                log.exception("removing blobs failed; the next pass tries again")
            self._stop.wait(SWEEP_S)

"""Runs in memory, bounded by count and bytes: live ones always, ended ones until newer ones need the room."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from records.store import RunRecord

#: What Python holds beside the document for a record and for each artifact of it: measured, rounded up.
RECORD_BYTES = 1024
ARTIFACT_BYTES = 1024


class MemoryRunStore:
    """A `RunStore` of this process. The oldest ended runs go first; a live run is never forgotten."""

    def __init__(self, *, max_runs: int, max_bytes: int) -> None:
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._live: dict[str, RunRecord] = {}
        self._ended: OrderedDict[str, RunRecord] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def put(self, record: RunRecord) -> None:
        """Keep a run; see `RunStore.put`. One too large for the whole store is forgotten when it ends."""
        with self._lock:
            if record.id in self._ended:
                return
            if not record.ended:
                self._live[record.id] = record
                return
            self._live.pop(record.id, None)
            self._ended[record.id] = record
            self._bytes += _size(record)
            while len(self._ended) > self._max_runs or self._bytes > self._max_bytes:
                _, oldest = self._ended.popitem(last=False)
                self._bytes -= _size(oldest)

    def get(self, owner: str, run_id: str) -> RunRecord | None:
        """The owner's run; see `RunStore.get`."""
        with self._lock:
            record = self._live.get(run_id) or self._ended.get(run_id)
        return record if record is not None and record.owner == owner else None

    def discard(self, run_id: str) -> None:
        """Forget a live run; see `RunStore.discard`."""
        with self._lock:
            self._live.pop(run_id, None)

    def __len__(self) -> int:
        return len(self._live) + len(self._ended)


def _size(record: RunRecord) -> int:
    return (
        len(record.document) + len(record.timeline or b"") + RECORD_BYTES + len(record.artifacts) * ARTIFACT_BYTES
    )

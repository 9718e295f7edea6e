"""Runs with what is too large for a record: outputs that the worker has stored, requests that api stores itself.

A document whose outputs are in storage has them empty, and ends with a list of the blobs. No other document ends
like that: its last field is `error`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import orjson

from config.pieces import PIECE_BYTES
from protocol.job import MAX_RECORD_BYTES
from records.runs import RunBlob
from storage import Blob
from storage.errors import BlobDamaged, BlobMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from records.files import OverStorage
    from records.page import Order, Page
    from records.runs import (
        Accepted,
        Duplicate,
        Event,
        EventPage,
        IdempotencyKey,
        Mismatch,
        NewRun,
        OverQuota,
        Run,
        RunEnd,
        RunStore,
    )
    from storage import BlobReader, BlobStore
    from storage.areas import ApiAreas

log = logging.getLogger(__name__)

_FIELD = "_blobs"
_MARK = b"]}"


def store_request(uploads: BlobStore | None, body: bytes) -> RunBlob | None:
    """Store a request that is too large for a record, where there is a store. Raises StorageUnavailable.

    If its run is not recorded after that, nothing names the blob, and the sweep removes it.
    """
    if uploads is None or len(body) <= MAX_RECORD_BYTES:
        return None
    stored = uploads.put((body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)), len(body))
    return RunBlob("request", "upload", stored.sha256, stored.size)


def marked(document: bytes, blobs: Sequence[RunBlob]) -> bytes:
    """Return the document as it is kept, whose outputs that are those blobs are empty already."""
    named = orjson.dumps([[blob.part, blob.sha256, blob.size] for blob in blobs])
    return b'%s,"%s":%s}' % (document[:-1], _FIELD.encode(), named)


def whole(document: bytes, artifacts: BlobReader) -> bytes:
    """Return the document as it is answered. Raises StorageUnavailable.

    An output whose bytes are lost or damaged is empty and said to be truncated: the rest of the run is there.
    """
    if not document.endswith(_MARK):
        return document
    data: dict[str, Any] = orjson.loads(document)
    for part, sha256, size in data.pop(_FIELD, ()):
        try:
            data[part] = _read(artifacts, sha256, size).decode()
        except (BlobMissing, BlobDamaged) as e:
            log.warning("an output is not what was stored: %s", e, extra={"run_id": data.get("id")})
            data[f"{part}_truncated"] = True
    return orjson.dumps(data)


def _read(reader: BlobReader, sha256: str, size: int) -> bytes:
    with reader.open(Blob(sha256, size)) as content:
        return b"".join(content)


class WholeRuns:
    """A `RunStore` whose runs are whole, wherever their parts are."""

    def __init__(self, store: RunStore, storage: ApiAreas) -> None:
        self._store = store
        self._storage = storage

    # -- what is read --------------------------------------------------------------------------------

    def get(self, owner: str, run_id: str) -> Run | None:
        """See `RunStore.get`."""
        run = self._store.get(owner, run_id)
        return None if run is None else self._whole(run)

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        status: str | None = None,
        language: str | None = None,
    ) -> Page[Run]:
        """See `RunStore.list`."""
        page = self._store.list(owner, limit=limit, after=after, order=order, status=status, language=language)
        return replace(page, items=tuple(map(self._whole, page.items)))

    def request(self, owner: str, run_id: str) -> bytes | None:
        """See `RunStore.request`; never empty."""
        kept = self._store.request(owner, run_id)
        if kept != b"":
            return kept
        blob = self._store.request_blob(owner, run_id)
        return None if blob is None else _read(self._storage.uploads, blob.sha256, blob.size)

    def _whole(self, run: Run) -> Run:
        document = whole(run.document, self._storage.artifacts)
        return run if document is run.document else replace(run, document=document)

    # -- what is the store's own -----------------------------------------------------------------------

    def accept(
        self, run: NewRun, idempotency: IdempotencyKey | None = None
    ) -> Accepted | Duplicate | Mismatch | OverQuota | OverStorage:
        """See `RunStore.accept`."""
        return self._store.accept(run, idempotency)

    def begin(self, run_id: str, attempt: int, document: bytes) -> bool:
        """See `RunStore.begin`."""
        return self._store.begin(run_id, attempt, document)

    def hold_back(self, run_id: str, attempt: int, document: bytes) -> bool:
        """See `RunStore.hold_back`."""
        return self._store.hold_back(run_id, attempt, document)

    def retry(self, run_id: str, attempt: int, document: bytes) -> int | None:
        """See `RunStore.retry`."""
        return self._store.retry(run_id, attempt, document)

    def append_events(self, run_id: str, attempt: int, events: tuple[Event, ...]) -> bool:
        """See `RunStore.append_events`."""
        return self._store.append_events(run_id, attempt, events)

    def finish(self, run_id: str, attempt: int, end: RunEnd) -> bool:
        """See `RunStore.finish`."""
        return self._store.finish(run_id, attempt, end)

    def discard(self, run_id: str) -> bool:
        """See `RunStore.discard`."""
        return self._store.discard(run_id)

    def request_blob(self, owner: str, run_id: str) -> RunBlob | None:
        """See `RunStore.request_blob`."""
        return self._store.request_blob(owner, run_id)

    def events(self, owner: str, run_id: str, *, after: int = 0, limit: int = 1000) -> EventPage | None:
        """See `RunStore.events`."""
        return self._store.events(owner, run_id, after=after, limit=limit)

    def delete(self, owner: str, run_id: str) -> Literal["deleted", "live", "unknown"]:
        """See `RunStore.delete`."""
        return self._store.delete(owner, run_id)

    def unfinished(self) -> Iterator[Run]:
        """See `RunStore.unfinished`."""
        return self._store.unfinished()

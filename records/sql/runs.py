"""Runs: acceptance, the state machine by compare-and-set, and the transaction that ends one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import bindparam, delete, func, insert, select, update

from records.files import StorageQuotaExceeded, StoredBlob
from records.leases import LEASE_MS
from records.packing import pack, unpack
from records.page import Order, RecordPage
from records.runs import (
    ENDED,
    FIRST_ATTEMPT,
    AcceptedRun,
    Duplicate,
    EventPage,
    ExternalIdUsed,
    IdempotencyKey,
    Mismatch,
    NewRun,
    OverQuota,
    Run,
    RunBlob,
    RunEnd,
    RunFilter,
    StoredEvent,
)
from records.sql import blobs, listing
from records.sql import events as event_rows
from records.sql.idempotency import Idempotency, key_digest
from records.sql.leases import alive, nobodys
from records.sql.search import RunSearch, SearchIndex, folded, marks, tags
from records.sql.sizes import ROW_BYTES, SqlSizes, kept_bytes
from records.sql.tables import files, requests, run_external_ids
from records.sql.tables import runs as table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from records.sql.database import Database
    from records.sql.files import SqlFiles
    from records.sql.usage import SqlUsage

_INSERT = insert(table).returning(table.c.seq)
_INSERTED = (
    "id", "owner", "status", "language", "attempt", "created_at_ms", "period", "idempotency_key",
    "last_event_seq", "request", "document_bytes", "document",
)  # fmt: skip
_DOCUMENT = ("document_bytes", "document")
#: A request of at most so many bytes, packed, is kept in the run's own row.
INLINE_BYTES = 4096
_THIS = (table.c.id == bindparam("run_id"), table.c.owner == bindparam("of"))
_LIVE = table.c.ended_at_ms.is_(None)
_ATTEMPT = (table.c.id == bindparam("run_id"), table.c.attempt == bindparam("tried"), _LIVE)

_BEGIN = update(table).where(*_ATTEMPT, table.c.status == "queued").values(status="running")
_HOLD_BACK = update(table).where(*_ATTEMPT, table.c.status == "running").values(status="queued")
_RETRY = update(table).where(*_ATTEMPT).values(status="queued", attempt=table.c.attempt + 1)
_FINISH = (
    update(table)
    .where(*_ATTEMPT)
    .values(kept_bytes=kept_bytes())
    .returning(
        table.c.seq,
        table.c.owner,
        table.c.language,
        table.c.last_event_seq,
        table.c.kept_bytes,
        table.c.period,
        table.c.idempotency_key,
    )
)
_HOLD = select(table.c.seq, table.c.last_event_seq).where(*_ATTEMPT).with_for_update()
_ADVANCE = update(table).where(table.c.seq == bindparam("run_seq")).values(last_event_seq=bindparam("last"))
_DISCARD = (
    delete(table)
    .where(table.c.id == bindparam("run_id"), _LIVE)
    .returning(table.c.owner, table.c.period, table.c.idempotency_key)
)
_GET = select(*listing.COLUMNS).where(*_THIS)
_REQUEST = (
    select(func.coalesce(table.c.request, requests.c.body).label("body"))
    .select_from(table.outerjoin(requests, table.c.seq == requests.c.run_seq))
    .where(*_THIS)
)
_IS_LIVE = select(table.c.seq).where(table.c.id == bindparam("run_id"), _LIVE)
_STATE = select(table.c.seq, table.c.ended_at_ms).where(*_THIS)


class _RefusedError(Exception):
    """Rolls the transaction back with the reason as its answer."""

    def __init__(self, answer: Duplicate | Mismatch | ExternalIdUsed | OverQuota | StorageQuotaExceeded) -> None:
        self.answer = answer


class SqlRuns:
    """`RunStore`."""

    def __init__(
        self,
        database: Database,
        files: SqlFiles,
        usage: SqlUsage,
        instance: str = "",
        lease_ms: int = LEASE_MS,
    ) -> None:
        """`instance` accepts runs, and recovers its own and those of instances whose lease has expired."""
        self._database = database
        self._instance = instance
        self._alive = alive(database, lease_ms)
        self._adopt = (
            update(table)
            .where(_LIVE, nobodys(table.c.instance, instance, self._alive))
            .values(instance=instance)
            .returning(table.c.id)
        )
        self._idempotency = Idempotency(database)
        self._files = files
        self._usage = usage
        self._sizes = SqlSizes(database)
        self._index = SearchIndex(database)
        prepare = database.prepare
        self._insert = prepare(_INSERT.values(instance=instance or None), _INSERTED)
        self._insert_external_id = database.insert(run_external_ids).on_conflict_do_nothing()
        self._insert_request = prepare(insert(requests), ("run_seq", "body"))
        self._insert_events = prepare(event_rows.INSERT, event_rows.COLUMNS)
        self._begin = prepare(_BEGIN, _DOCUMENT)
        self._finish = prepare(_FINISH, ("status", "ended_at_ms", *_DOCUMENT))
        self._hold = prepare(_HOLD)
        self._advance = prepare(_ADVANCE)
        self._get = prepare(_GET)

    def accept(
        self, run: NewRun, idempotency: IdempotencyKey | None = None
    ) -> AcceptedRun | Duplicate | Mismatch | ExternalIdUsed | OverQuota | StorageQuotaExceeded:
        """See `RunStore.accept`."""
        key = None if idempotency is None else key_digest(idempotency.key)
        request = pack(run.request)
        row = {
            "id": run.id,
            "owner": run.owner,
            "status": run.status,
            "language": run.language,
            "attempt": FIRST_ATTEMPT,
            "created_at_ms": run.created_at_ms,
            "period": run.quota.period if run.quota is not None else None,
            "idempotency_key": key,
            "last_event_seq": 0,
            "request": request if len(request) <= INLINE_BYTES else None,
            **_document(run.document),
        }

        digests = [*tags(run.owner, run.metadata)] if run.metadata else []
        if run.session_id is not None or run.external_id is not None or run.function is not None:
            digests += marks(run.owner, run.session_id, run.external_id, run.function)

        def work(connection: Connection) -> None:
            if idempotency is not None and key is not None:
                _refuse(self._idempotency.claim(connection, run, idempotency, key))
            if run.quota is not None:
                _refuse(self._usage.count(connection, run.owner, run.quota))
            if run.storage_bytes is not None:
                _refuse(self._files.over(connection, run.owner, run.storage_bytes))
            seq = self._insert(connection, row).scalar_one()
            if run.blob is not None:
                blobs.add(connection, seq, (run.blob,))
            if run.external_id is not None:
                named = {"owner": run.owner, "external_id": run.external_id, "run_seq": seq}
                if not connection.execute(self._insert_external_id, named).rowcount:
                    raise _RefusedError(ExternalIdUsed())
            if digests:
                self._index.accepted(connection, seq, digests)
            if row["request"] is None:
                self._insert_request(connection, {"run_seq": seq, "body": request})

        try:
            self._database.write(work)
        except _RefusedError as e:
            return e.answer
        return AcceptedRun()

    def begin(self, run_id: str, attempt: int, document: bytes) -> bool:
        """See `RunStore.begin`."""
        row = {"run_id": run_id, "tried": attempt, **_document(document)}
        return self._database.write(lambda connection: self._begin(connection, row).rowcount) > 0

    def requeue(self, run_id: str, attempt: int, document: bytes) -> bool:
        """See `RunStore.requeue`."""
        row = {"run_id": run_id, "tried": attempt, **_document(document)}
        return self._database.write(lambda connection: connection.execute(_HOLD_BACK, row).rowcount) > 0

    def retry(self, run_id: str, attempt: int, document: bytes) -> int | None:
        """See `RunStore.retry`."""
        row = {"run_id": run_id, "tried": attempt, **_document(document)}
        changed = self._database.write(lambda connection: connection.execute(_RETRY, row).rowcount)
        return attempt + 1 if changed else None

    def append_events(self, run_id: str, attempt: int, events: tuple[StoredEvent, ...]) -> bool:
        """See `RunStore.append_events`."""
        ready = event_rows.packed(events)

        def work(connection: Connection) -> bool:
            run = self._hold(connection, {"run_id": run_id, "tried": attempt}).first()
            if run is None:
                return False
            new = event_rows.newer(events, ready, run.last_event_seq)
            if new:
                self._insert_events.many(connection, event_rows.rows(run.seq, new))
                self._advance(connection, {"run_seq": run.seq, "last": new[-1][0]})
            return True

        return self._database.write(work)

    def finish(self, run_id: str, attempt: int, end: RunEnd) -> bool:
        """See `RunStore.finish`. Raises ValueError for a status that ends nothing."""
        if end.status not in ENDED:
            raise ValueError("the status is none of an ended run")
        row: dict[str, Any] = {
            "run_id": run_id,
            "tried": attempt,
            "status": end.status,
            "ended_at_ms": end.ended_at_ms,
            **_document(end.document),
        }
        in_storage = sum(blob.size for blob in end.blobs)
        row["document_bytes"] += in_storage  # what a page of a list comes to
        ready = event_rows.packed(end.events)
        text = folded(end.error_text)
        row["more"] = (
            ROW_BYTES + len(text) + len(row["document"]) + sum(len(chunk) for _, chunk in ready) + in_storage
        )

        def work(connection: Connection) -> bool:
            run = self._finish(connection, row).first()
            if run is None:
                return False
            new = event_rows.newer(end.events, ready, run.last_event_seq)
            if new:
                self._insert_events.many(connection, event_rows.rows(run.seq, new))
            blobs.add(connection, run.seq, end.blobs)
            if end.artifacts:
                self._files.add_artifacts(connection, run.owner, run.seq, run_id, end.artifacts)
            self._usage.add(connection, run.owner, run.language, end.ended_at_ms, end.usage)
            self._sizes.add(connection, run.owner, run.kept_bytes)
            if text:
                self._index.ended(connection, run.seq, run.owner, text)
            if end.never_began:
                self._undo_acceptance(connection, run_id, run.owner, run.idempotency_key, run.period)
            return True

        return self._database.write(work)

    def discard(self, run_id: str) -> bool:
        """See `RunStore.discard`."""

        def work(connection: Connection) -> bool:
            request = blobs.find(connection, run_id, "request")
            gone = connection.execute(_DISCARD, {"run_id": run_id}).first()
            if gone is None:
                return False
            if request is not None:
                self._files.unname(connection, [StoredBlob(request.area, request.sha256)])
            self._undo_acceptance(connection, run_id, gone.owner, gone.idempotency_key, gone.period)
            return True

        return self._database.write(work)

    def _undo_acceptance(
        self, connection: Connection, run_id: str, owner: str, key: bytes | None, period: str | None
    ) -> None:
        """Free the Idempotency-Key of a run that never started, and do not count it."""
        if key is not None:
            self._idempotency.release(connection, owner, bytes(key), run_id)
        if period is not None:
            self._usage.uncount(connection, owner, period)

    def get(self, owner: str, run_id: str) -> Run | None:
        """See `RunStore.get`."""
        asked = {"run_id": run_id, "of": owner}
        row = self._database.read(lambda connection: self._get(connection, asked).first())
        return None if row is None else listing.run_of(row)

    def request(self, owner: str, run_id: str) -> bytes | None:
        """See `RunStore.request`."""
        asked = {"run_id": run_id, "of": owner}
        row = self._database.read(lambda connection: connection.execute(_REQUEST, asked).first())
        return None if row is None else unpack(row.body)

    def request_blob(self, owner: str, run_id: str) -> RunBlob | None:
        """See `RunStore.request_blob`."""

        def work(connection: Connection) -> RunBlob | None:
            is_there = connection.execute(_STATE, {"run_id": run_id, "of": owner}).first() is not None
            return blobs.find(connection, run_id, "request") if is_there else None

        return self._database.read(work)

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        status: str | None = None,
        language: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RecordPage[Run]:
        """See `RunStore.list`."""
        wanted = RunFilter(owner, status, language, metadata or {})
        return self.search(wanted, limit=limit, after=after, order=order)

    def search(
        self, wanted: RunFilter, *, limit: int, after: str | None = None, order: Order = "desc"
    ) -> RecordPage[Run]:
        """See `RunStore.search`."""
        # Of all keys, no index finds what succeeded.
        is_walked = wanted.owner is None and wanted.status == "succeeded"
        is_marked = any(mark is not None for mark in (wanted.session_id, wanted.external_id, wanted.function))
        if wanted.metadata or wanted.error is not None or is_walked or is_marked:
            search = RunSearch(wanted, order, is_sqlite=self._database.is_sqlite)
            found, has_more, resume = self._database.read(partial(search.page, limit=limit, after=after))
            return RecordPage(tuple(listing.run_of(row) for row in found), has_more, resume)
        rows, has_more = self._database.read(
            lambda connection: listing.page(
                connection,
                wanted.owner,
                limit=limit,
                after=after,
                order=order,
                status=wanted.status,
                language=wanted.language,
            )
        )
        return RecordPage(tuple(listing.run_of(row) for row in rows), has_more)

    def events(self, owner: str, run_id: str, *, after: int = 0, limit: int = 1000) -> EventPage | None:
        """See `RunStore.events`."""

        def work(connection: Connection) -> tuple[bool, list[bytes]] | None:
            # The state first: events that were kept before a run ended are then all seen with its end.
            run = connection.execute(_STATE, {"run_id": run_id, "of": owner}).first()
            if run is None:
                return None
            return run.ended_at_ms is not None, event_rows.read(connection, run.seq, after)

        found = self._database.read(work)
        if found is None:
            return None
        ended, chunks = found
        return event_rows.page(chunks, after=after, limit=limit, ended=ended)

    def delete(self, owner: str, run_id: str) -> Literal["deleted", "live", "unknown"]:
        """See `RunStore.delete`."""

        def work(connection: Connection) -> Literal["deleted", "live", "unknown"]:
            run = connection.execute(_STATE, {"run_id": run_id, "of": owner}).first()
            if run is None:
                return "unknown"
            if run.ended_at_ms is None:
                return "live"
            # Another thread may delete it at this moment; then nothing of it is left.
            return "deleted" if self.remove(connection, [run.seq]) else "unknown"

        return self._database.write(work)

    def adopt(self) -> tuple[str, ...]:
        """See `RunStore.adopt`."""
        if not self._instance:
            return ()
        return self._database.write(lambda connection: tuple(connection.execute(self._adopt).scalars()))

    def is_live(self, run_id: str) -> bool:
        """See `RunStore.is_live`."""
        found = self._database.read(lambda connection: connection.execute(_IS_LIVE, {"run_id": run_id}).first())
        return found is not None

    def unfinished(self) -> Iterator[Run]:
        """See `RunStore.unfinished`."""
        last = self._database.read(listing.last_seq)
        return self._unfinished(last)

    def _unfinished(self, last: int) -> Iterator[Run]:
        above = 0
        batch = partial(listing.unfinished, last=last, own=self._instance, alive=self._alive)
        while rows := self._database.read(partial(batch, above=above)):
            for _, *row in rows:
                yield listing.run_of(row)
            above = rows[-1].seq

    def remove(self, connection: Connection, seqs: Sequence[int]) -> int:
        """Delete ended runs with all their rows, inside the caller's transaction. Returns their number."""
        self._files.remove(connection, files.c.run_seq.in_(seqs))
        self._files.unname(connection, blobs.remove(connection, seqs))
        which = (table.c.seq.in_(seqs), ~_LIVE)
        gone = connection.execute(delete(table).where(*which).returning(table.c.owner, table.c.kept_bytes)).all()
        self._sizes.take_back(connection, gone)
        return len(gone)


def _document(document: bytes) -> dict[str, int | bytes]:
    return {"document_bytes": len(document), "document": pack(document)}


def _refuse(answer: Duplicate | Mismatch | OverQuota | StorageQuotaExceeded | None) -> None:
    if answer is not None:
        raise _RefusedError(answer)

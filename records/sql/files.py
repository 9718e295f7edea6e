"""Files: rows, the bytes a key keeps, and unreferenced blobs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, exists, insert, or_, select, tuple_, update

from records.files import Area, FileRecord, NewFile, StorageQuotaExceeded, StoredBlob
from records.page import Order, RecordPage
from records.sql.paging import walk
from records.sql.tables import files as table
from records.sql.tables import function_blobs, run_blobs, runs, storage
from records.sql.tables import unnamed_blobs as unnamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from sqlalchemy import ColumnElement, Connection, Executable

    from records.sql.database import Database

#: Values of one IN (…): far below what either database takes.
IN_AT_MOST = 500

_COLUMNS = (
    table.c.id, table.c.owner, table.c.area, table.c.run_id, table.c.name, table.c.path, table.c.size,
    table.c.sha256, table.c.content_type, table.c.created_at_ms, table.c.expires_at_ms, table.c.purpose,
)  # fmt: skip
_INSERT = insert(table)
_NOT_EXPIRED = or_(table.c.expires_at_ms.is_(None), table.c.expires_at_ms > bindparam("now_ms"))
_BY_ID = select(*_COLUMNS).where(table.c.id == bindparam("file_id"), _NOT_EXPIRED)
_OF_RUN = (
    select(*_COLUMNS)
    .join(runs, runs.c.seq == table.c.run_seq)
    .where(runs.c.id == bindparam("run"), runs.c.owner == bindparam("of"), _NOT_EXPIRED)
    .order_by(table.c.seq)
)
_STORED = select(storage.c.bytes).where(storage.c.owner == bindparam("owner"))
_UNCHARGE = (
    update(storage).where(storage.c.owner == bindparam("of")).values(bytes=storage.c.bytes - bindparam("less"))
)
_DELETED = (table.c.owner, table.c.area, table.c.sha256, table.c.size)
_NAMED = or_(
    exists().where(table.c.sha256 == unnamed.c.sha256, table.c.area == unnamed.c.area),
    exists().where(run_blobs.c.sha256 == unnamed.c.sha256, run_blobs.c.area == unnamed.c.area),
    exists().where(function_blobs.c.sha256 == unnamed.c.sha256, function_blobs.c.area == unnamed.c.area),
)
_NOBODYS = (
    select(unnamed.c.area, unnamed.c.sha256)
    .where(unnamed.c.since_ms < bindparam("before_ms"), ~_NAMED)
    .order_by(unnamed.c.since_ms)
    .limit(bindparam("most"))
)
_NAMED_AGAIN = delete(unnamed).where(unnamed.c.since_ms < bindparam("before_ms"), _NAMED)
#: More than any disk holds: a limit that is none.
_NO_LIMIT = 2**62


class SqlFiles:
    """`FileStore`, and what a run's own transactions do with its artifacts."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._stored = database.prepare(_STORED)
        new = database.insert(storage)
        self._charge = new.on_conflict_do_update(
            index_elements=[storage.c.owner],
            set_={"bytes": storage.c.bytes + new.excluded.bytes},
            where=storage.c.bytes + new.excluded.bytes <= bindparam("most"),
        ).returning(storage.c.bytes)
        new = database.insert(unnamed)
        self._unname = new.on_conflict_do_update(
            index_elements=[unnamed.c.sha256, unnamed.c.area], set_={"since_ms": new.excluded.since_ms}
        )

    def put(
        self, owner: str, file: NewFile, *, limit_bytes: int | None = None
    ) -> FileRecord | StorageQuotaExceeded:
        """See `FileStore.put`."""
        most = _NO_LIMIT if limit_bytes is None else limit_bytes

        def work(connection: Connection) -> int | None:
            row = {"owner": owner, "bytes": file.size, "most": most}
            if file.size > most or connection.execute(self._charge, row).first() is None:
                return connection.execute(_STORED, {"owner": owner}).scalar() or 0
            connection.execute(_INSERT, _row(owner, "upload", file))
            return None

        used = self._database.write(work)
        if used is not None:
            return StorageQuotaExceeded(used, most)
        return FileRecord(**{column.name: _row(owner, "upload", file)[column.name] for column in _COLUMNS})

    def over(self, connection: Connection, owner: str, limit_bytes: int) -> StorageQuotaExceeded | None:
        """Check inside the caller's transaction whether the owner already stores `limit_bytes` or more."""
        used = self._stored(connection, {"owner": owner}).scalar() or 0
        return StorageQuotaExceeded(used, limit_bytes) if used >= limit_bytes else None

    def get(self, owner: str, file_id: str) -> FileRecord | None:
        """See `FileStore.get`."""
        found = self.linked(file_id)
        return found if found is not None and found.owner == owner else None

    def linked(self, file_id: str) -> FileRecord | None:
        """See `FileStore.linked`."""
        asked = {"file_id": file_id, "now_ms": self._clock()}
        row: Any = self._database.read(lambda connection: connection.execute(_BY_ID, asked).first())
        return None if row is None else FileRecord(*row)

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        area: Area | None = None,
    ) -> RecordPage[FileRecord]:
        """See `FileStore.list`."""

        def work(connection: Connection) -> Sequence[Any]:
            statement = select(*_COLUMNS).where(_NOT_EXPIRED).limit(limit + 1)
            if area is not None:
                statement = statement.where(table.c.area == area)
            mine = (table.c.owner == owner,)
            statement = walk(connection, statement, table, within=mine, after=after, order=order)
            return connection.execute(statement, {"now_ms": self._clock()}).all()

        rows = self._database.read(work)
        return RecordPage(tuple(FileRecord(*row) for row in rows[:limit]), has_more=len(rows) > limit)

    def of_run(self, owner: str, run_id: str) -> tuple[FileRecord, ...]:
        """See `FileStore.of_run`."""
        asked = {"of": owner, "run": run_id, "now_ms": self._clock()}
        rows: Sequence[Any] = self._database.read(lambda connection: connection.execute(_OF_RUN, asked).all())
        return tuple(FileRecord(*row) for row in rows)

    def delete(self, owner: str, file_id: str) -> bool:
        """See `FileStore.delete`."""
        which = (table.c.id == file_id, table.c.owner == owner)
        return self._database.write(lambda connection: self.remove(connection, *which)) > 0

    def stored_bytes(self, owner: str) -> int:
        """See `FileStore.stored_bytes`."""
        return self._database.read(lambda c: c.execute(_STORED, {"owner": owner}).scalar()) or 0

    def in_use(self, blobs: Iterable[StoredBlob]) -> frozenset[StoredBlob]:
        """See `FileStore.in_use`."""
        found: set[StoredBlob] = set()
        for some in _batches(blobs):
            for names in (table, run_blobs, function_blobs):
                statement = select(names.c.area, names.c.sha256).distinct().where(_one_of(names, some))
                rows = self._database.read(partial(_all, statement))
                found.update(StoredBlob(*row) for row in rows)
        return frozenset(found)

    def mark_unreferenced(self, blobs: Iterable[StoredBlob]) -> None:
        """See `FileStore.mark_unreferenced`."""
        rows = [{"sha256": blob.sha256, "area": blob.area, "since_ms": self._clock()} for blob in blobs]

        def work(connection: Connection) -> None:
            for row in rows:
                connection.execute(self._unname, row)

        self._database.write(work)

    def unreferenced(self, *, before_ms: int, limit: int = 1000) -> tuple[StoredBlob, ...]:
        """See `FileStore.unreferenced`."""

        def work(connection: Connection) -> tuple[StoredBlob, ...]:
            # Looked at only now: two that each remove one of the last two names do not see one another.
            connection.execute(_NAMED_AGAIN, {"before_ms": before_ms})
            rows = connection.execute(_NOBODYS, {"before_ms": before_ms, "most": limit})
            return tuple(StoredBlob(*row) for row in rows)

        return self._database.write(work)

    def delete_rows(self, blobs: Iterable[StoredBlob]) -> None:
        """See `FileStore.delete_rows`."""
        for some in _batches(blobs):
            statement = delete(unnamed).where(_one_of(unnamed, some))
            self._database.write(partial(_do, statement))

    def add_artifacts(
        self, connection: Connection, owner: str, run_seq: int, run_id: str, files: tuple[NewFile, ...]
    ) -> None:
        """Add what a run has made: it is there, so no limit refuses it, but it counts."""
        row = {"owner": owner, "bytes": sum(file.size for file in files), "most": _NO_LIMIT}
        connection.execute(self._charge, row)
        rows = [_row(owner, "artifact", file, run_seq=run_seq, run_id=run_id) for file in files]
        connection.execute(_INSERT, rows)

    def remove(self, connection: Connection, *which: ColumnElement[bool]) -> int:
        """Delete rows, reduce their owners' usage and record their blobs. Returns the number of rows."""
        gone = connection.execute(delete(table).where(*which).returning(*_DELETED)).all()
        freed: dict[str, int] = {}
        for row in gone:
            freed[row.owner] = freed.get(row.owner, 0) + row.size
        # In one order everywhere, and the rows of one statement sorted: no two can wait for each other.
        for owner in sorted(freed):
            connection.execute(_UNCHARGE, {"of": owner, "less": freed[owner]})
        self.unname(connection, [StoredBlob(row.area, row.sha256) for row in gone])
        return len(gone)

    def unname(self, connection: Connection, blobs: Iterable[StoredBlob]) -> None:
        """Record blobs that lost a row as unreferenced, inside the caller's transaction."""
        since_ms = self._clock()
        for sha256, area in sorted({(blob.sha256, blob.area) for blob in blobs}):
            connection.execute(self._unname, {"sha256": sha256, "area": area, "since_ms": since_ms})


def _all(statement: Executable, connection: Connection) -> Sequence[Any]:
    return connection.execute(statement).all()


def _do(statement: Executable, connection: Connection) -> None:
    connection.execute(statement)


def _row(
    owner: str, area: Area, file: NewFile, *, run_seq: int | None = None, run_id: str | None = None
) -> dict[str, Any]:
    return {
        "id": file.id,
        "owner": owner,
        "area": area,
        "run_seq": run_seq,
        "run_id": run_id,
        "name": file.name,
        "path": file.path,
        "size": file.size,
        "sha256": file.sha256,
        "content_type": file.content_type,
        "created_at_ms": file.created_at_ms,
        "expires_at_ms": file.expires_at_ms,
        "purpose": file.purpose,
    }


def _batches(blobs: Iterable[StoredBlob]) -> Iterable[list[StoredBlob]]:
    given = list(blobs)
    return (given[start : start + IN_AT_MOST] for start in range(0, len(given), IN_AT_MOST))


def _one_of(where: Any, blobs: list[StoredBlob]) -> ColumnElement[bool]:  # noqa: ANN401  # a table with those columns
    return tuple_(where.c.sha256, where.c.area).in_([(blob.sha256, blob.area) for blob in blobs])

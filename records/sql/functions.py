"""Functions and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, case, delete, func, insert, select, update

from records.files import StoredBlob
from records.functions import (
    AddedVersion,
    BuildEnd,
    FunctionBlob,
    FunctionBounds,
    FunctionsTooLarge,
    FunctionVersion,
    NewVersion,
    TooManyFunctions,
)
from records.packing import pack, unpack
from records.page import RecordPage
from records.sql.paging import walk
from records.sql.tables import function_blobs as blobs
from records.sql.tables import function_versions as table
from records.sql.tables import functions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from records.page import Order
    from records.sql.database import Database
    from records.sql.files import SqlFiles
    from records.sql.prepared import Prepared

_HEAD = (
    table.c.seq, functions.c.owner, functions.c.id, table.c.version, table.c.language, table.c.state,
    table.c.document, table.c.build_run_id, functions.c.created_at_ms.label("first_ms"), table.c.created_at_ms,
    table.c.updated_at_ms, table.c.layer,
)  # fmt: skip
_WHOLE = (*_HEAD, table.c.source, table.c.log)
_JOINED = table.join(functions, functions.c.seq == table.c.function_seq)
_NAMED = (functions.c.owner == bindparam("of"), functions.c.id == bindparam("named"))
_LIVE = functions.c.deleted_at_ms.is_(None)
_BUILDING = table.c.state == "building"
#: The newest ready version first, then the newest.
_BEST_FIRST = (case((table.c.state == "ready", 0), else_=1), table.c.version.desc())
_GET = select(*_WHOLE).select_from(_JOINED).where(*_NAMED, _LIVE).order_by(*_BEST_FIRST).limit(1)
_GET_NEWEST = select(*_WHOLE).select_from(_JOINED).where(*_NAMED, _LIVE).order_by(table.c.version.desc()).limit(1)
_GET_ONE = select(*_WHOLE).select_from(_JOINED).where(*_NAMED, _LIVE, table.c.version == bindparam("numbered"))
_BLOBS = select(blobs.c.version_seq, blobs.c.part, blobs.c.area, blobs.c.sha256, blobs.c.size)
_FIND = select(functions.c.seq, functions.c.last_version, functions.c.deleted_at_ms).where(*_NAMED)
_COUNTS = select(func.count(), func.count(case((_LIVE, 1)))).where(functions.c.owner == bindparam("of"))
_BYTES = (
    select(func.coalesce(func.sum(table.c.bytes), 0))
    .select_from(_JOINED)
    .where(functions.c.owner == bindparam("of"))
)
_NEXT = (
    update(functions)
    .where(functions.c.seq == bindparam("this"))
    .values(
        last_version=functions.c.last_version + 1,
        deleted_at_ms=None,
        created_at_ms=case((_LIVE, functions.c.created_at_ms), else_=bindparam("at_ms")),
    )
    .returning(functions.c.last_version)
)


class SqlFunctions:
    """`FunctionStore`."""

    def __init__(self, database: Database, files: SqlFiles) -> None:
        self._database = database
        self._files = files
        self._insert = database.insert(functions).on_conflict_do_nothing()
        # On the path of every call.
        self._get = database.prepare(_GET)
        self._get_newest = database.prepare(_GET_NEWEST)
        self._get_one = database.prepare(_GET_ONE)
        self._blobs = database.prepare(_BLOBS.where(blobs.c.version_seq == bindparam("of_version")))

    def add(
        self, version: NewVersion, bounds: FunctionBounds
    ) -> AddedVersion | TooManyFunctions | FunctionsTooLarge:
        """See `FunctionStore.add`."""
        named = {"of": version.owner, "named": version.name}
        row = {
            "owner": version.owner,
            "id": version.name,
            "last_version": 0,
            "created_at_ms": version.created_at_ms,
            "deleted_at_ms": version.created_at_ms,  # until it has a version
        }
        new = {
            "language": version.language,
            "state": "building",
            "created_at_ms": version.created_at_ms,
            "updated_at_ms": version.created_at_ms,
            "build_run_id": version.build_run_id,
            "bytes": version.size,
            "document": pack(version.document),
            "source": pack(version.source),
            "log": pack(b""),
        }

        def work(connection: Connection) -> AddedVersion | TooManyFunctions | FunctionsTooLarge:
            used: int = connection.execute(_BYTES, named).scalar_one()
            if used + version.size > bounds.total_bytes:
                return FunctionsTooLarge(used, bounds.total_bytes)
            names, live = connection.execute(_COUNTS, named).one()
            found = connection.execute(_FIND, named).first()
            if (found is None or found.deleted_at_ms is not None) and live >= bounds.functions:
                return TooManyFunctions(bounds.functions)
            if found is None:
                if names >= bounds.names:
                    return TooManyFunctions(bounds.names)
                connection.execute(self._insert, row)
                found = connection.execute(_FIND, named).one()
            numbered = connection.execute(_NEXT, {"this": found.seq, "at_ms": version.created_at_ms}).scalar_one()
            kept = insert(table).returning(table.c.seq)
            seq = connection.execute(kept, new | {"function_seq": found.seq, "version": numbered}).scalar_one()
            self._name(connection, seq, version.blob)
            return AddedVersion(numbered, is_new=found.deleted_at_ms is not None)

        return self._database.write(work)

    @staticmethod
    def _name(connection: Connection, seq: int, blob: FunctionBlob | None) -> None:
        if blob is not None:
            row = {
                "version_seq": seq,
                "part": blob.part,
                "area": blob.area,
                "sha256": blob.sha256,
                "size": blob.size,
            }
            connection.execute(insert(blobs), row)

    def discard(self, owner: str, name: str, version: int) -> None:
        """See `FunctionStore.discard`."""
        named = {"of": owner, "named": name}

        def work(connection: Connection) -> None:
            found = connection.execute(_FIND, named).first()
            if found is None:
                return
            this = (table.c.function_seq == found.seq, table.c.version == version, _BUILDING)
            self._remove(connection, connection.execute(select(table.c.seq).where(*this)).scalars().all())
            if not connection.execute(select(table.c.seq).where(table.c.function_seq == found.seq)).first():
                self._mark_deleted(connection, found.seq)

        self._database.write(work)

    def end_build(self, owner: str, name: str, version: int, end: BuildEnd) -> bool:
        """See `FunctionStore.end_build`."""
        log = end.log.encode("utf-8", "replace")
        more = len(log) + (0 if end.program is None else end.program.size)
        values = {
            "state": end.state,
            "updated_at_ms": end.at_ms,
            "log": pack(log),
            "bytes": table.c.bytes + more,
            "layer": end.layer,
        }

        def work(connection: Connection) -> bool:
            found = connection.execute(_FIND, {"of": owner, "named": name}).first()
            if found is None:
                return False
            this = (table.c.function_seq == found.seq, table.c.version == version, _BUILDING)
            seq = connection.execute(update(table).where(*this).values(values).returning(table.c.seq)).scalar()
            if seq is None:
                return False
            self._name(connection, seq, end.program)
            return True

        return self._database.write(work)

    def get(self, owner: str, name: str, version: int | None = None) -> FunctionVersion | None:
        """See `FunctionStore.get`."""
        named = {"of": owner, "named": name}
        if version is None:
            return self._one(self._get, named)
        return self._one(self._get_one, named | {"numbered": version})

    def newest(self, owner: str, name: str) -> FunctionVersion | None:
        """See `FunctionStore.newest`."""
        return self._one(self._get_newest, {"of": owner, "named": name})

    def _one(self, statement: Prepared, asked: dict[str, Any]) -> FunctionVersion | None:
        def work(connection: Connection) -> FunctionVersion | None:
            row = statement(connection, asked).first()
            if row is None:
                return None
            return _version(row, tuple(map(_blob, self._blobs(connection, {"of_version": row.seq}).rows)))

        return self._database.read(work)

    def list(
        self, owner: str, *, limit: int, after: str | None = None, order: Order = "desc"
    ) -> RecordPage[FunctionVersion]:
        """See `FunctionStore.list`."""
        mine = (functions.c.owner == owner, _LIVE)

        def work(connection: Connection) -> RecordPage[FunctionVersion]:
            statement = select(functions.c.seq).limit(limit + 1)
            statement = walk(connection, statement, functions, within=mine, after=after, order=order)
            seqs = connection.execute(statement).scalars().all()
            shown = seqs[:limit]
            rank = func.row_number().over(partition_by=table.c.function_seq, order_by=_BEST_FIRST).label("rank")
            ranked = select(table.c.seq, rank).where(table.c.function_seq.in_(shown)).subquery()
            first = select(ranked.c.seq).where(ranked.c.rank == 1)
            chosen = select(*_HEAD, table.c.function_seq).select_from(_JOINED).where(table.c.seq.in_(first))
            rows = sorted(connection.execute(chosen).all(), key=lambda row: shown.index(row.function_seq))
            return RecordPage(tuple(_versions(connection, rows)), has_more=len(seqs) > limit)

        return self._database.read(work)

    def delete(self, owner: str, name: str) -> bool:
        """See `FunctionStore.delete`."""

        def work(connection: Connection) -> bool:
            found = connection.execute(_FIND.where(_LIVE), {"of": owner, "named": name}).first()
            if found is None:
                return False
            of = select(table.c.seq).where(table.c.function_seq == found.seq)
            self._remove(connection, connection.execute(of).scalars().all())
            self._mark_deleted(connection, found.seq)
            return True

        return self._database.write(work)

    def building(self, *, limit: int = 1000) -> tuple[FunctionVersion, ...]:
        """See `FunctionStore.building`."""
        statement = select(*_HEAD).select_from(_JOINED).where(_BUILDING).order_by(table.c.seq).limit(limit)

        def work(connection: Connection) -> tuple[FunctionVersion, ...]:
            return tuple(_versions(connection, connection.execute(statement).all()))

        return self._database.read(work)

    def prune(self, *, keep: int, batch: int = 200) -> int:
        """See `FunctionStore.prune`."""
        by = table.c.function_seq
        newest = func.row_number().over(partition_by=by, order_by=table.c.version.desc()).label("newest")
        best = func.row_number().over(partition_by=by, order_by=_BEST_FIRST).label("best")
        ranked = select(table.c.seq, table.c.state, newest, best).subquery()
        old = (
            select(ranked.c.seq)
            .where(and_(ranked.c.newest > keep, ranked.c.best > 1, ranked.c.state != "building"))
            .order_by(ranked.c.seq)
            .limit(batch)
        )
        seqs = self._database.read(lambda connection: connection.execute(old).scalars().all())
        if seqs:
            self._database.write(lambda connection: self._remove(connection, seqs))
        return len(seqs)

    def _remove(self, connection: Connection, seqs: Sequence[int]) -> None:
        """Delete versions; their blobs are named by them no more."""
        if not seqs:
            return
        gone = delete(blobs).where(blobs.c.version_seq.in_(seqs)).returning(blobs.c.area, blobs.c.sha256)
        named = [StoredBlob(row.area, row.sha256) for row in connection.execute(gone)]
        connection.execute(delete(table).where(table.c.seq.in_(seqs)))
        self._files.unname(connection, named)

    @staticmethod
    def _mark_deleted(connection: Connection, seq: int) -> None:
        """Keep the number of its last version alone."""
        gone = update(functions).where(functions.c.seq == seq).values(deleted_at_ms=functions.c.created_at_ms)
        connection.execute(gone)


def _versions(connection: Connection, rows: Iterable[Any]) -> list[FunctionVersion]:
    found = list(rows)
    named: dict[int, list[FunctionBlob]] = {}
    for row in connection.execute(_BLOBS.where(blobs.c.version_seq.in_([row.seq for row in found]))):
        named.setdefault(row.version_seq, []).append(_blob(row))
    return [_version(row, tuple(named.get(row.seq, ()))) for row in found]


def _blob(row: Any) -> FunctionBlob:  # noqa: ANN401  # of _BLOBS
    return FunctionBlob(row.part, row.area, row.sha256, row.size)


def _version(row: Any, named: tuple[FunctionBlob, ...]) -> FunctionVersion:  # noqa: ANN401  # of _HEAD or _WHOLE
    return FunctionVersion(
        owner=row.owner,
        name=row.id,
        version=row.version,
        language=row.language,
        state=row.state,
        log=unpack(row.log).decode() if hasattr(row, "log") else "",
        document=unpack(bytes(row.document)),
        source=unpack(bytes(row.source)) if hasattr(row, "source") else b"",
        build_run_id=row.build_run_id,
        function_created_at_ms=row.first_ms,
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
        blobs=named,
        layer=row.layer,
    )

"""Sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, exists, insert, literal, select, update
from sqlalchemy.types import LargeBinary

from records.errors import RecordsUnavailable
from records.leases import LEASE_MS
from records.page import RecordPage
from records.sessions import ExternalIdInUse, NewSession, SessionFilter, SessionUse, StoredSession
from records.sql.leases import alive, nobodys
from records.sql.paging import walk
from records.sql.search import tag
from records.sql.tables import session_tags
from records.sql.tables import sessions as table
from records.usage import SessionUsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection

    from records.page import Order
    from records.runs import OverQuota
    from records.sql.database import Database
    from records.sql.usage import SqlUsage

_COLUMNS = (
    table.c.id, table.c.owner, table.c.name, table.c.language, table.c.created_at_ms, table.c.ended_at_ms,
    table.c.document, table.c.facts,
)  # fmt: skip
_LIVE = table.c.ended_at_ms.is_(None)
_THIS = table.c.id == bindparam("session_id")
_BY_ID = select(*_COLUMNS).where(_THIS, table.c.owner == bindparam("of"))
_ANYBODYS = select(*_COLUMNS).where(_THIS)
_NAMED = select(*_COLUMNS).where(_LIVE, table.c.owner == bindparam("of"), table.c.name == bindparam("named"))
_HAS_EXTERNAL_ID = select(table.c.seq).where(
    table.c.owner == bindparam("of"), table.c.external_id == bindparam("external")
)
_END = update(table).where(_THIS, _LIVE).values(ended_at_ms=bindparam("at_ms"), facts=bindparam("told"))
#: The counted usage of a session until now, in the order of SessionUsed.
_COUNTED = (
    table.c.counted_ms, table.c.counted_cpu_ms, table.c.counted_memory_mb_ms, table.c.counted_egress_bytes,
)  # fmt: skip
_HOLD = select(table.c.owner, table.c.language, *_COUNTED).where(_THIS, _LIVE)
_COUNT = (
    update(table)
    .where(_THIS, _LIVE)
    .values({column: bindparam(f"new_{column.name}") for column in _COUNTED} | {table.c.facts: bindparam("told")})
)
_CHANGE = (
    update(table).where(_THIS, _LIVE).values(document=bindparam("asked")).returning(table.c.seq, table.c.owner)
)
_DISCARD = delete(table).where(_THIS, _LIVE).returning(table.c.owner, table.c.language, table.c.period)
#: The conflict that prevents an INSERT is found by the second look, except after a coincidence.
MOST_TRIES = 8
NO_FILTER = SessionFilter()


class SqlSessions:
    """`SessionStore`."""

    def __init__(self, database: Database, usage: SqlUsage, instance: str, lease_ms: int = LEASE_MS) -> None:
        """`instance` is whose the sessions are that are created."""
        self._adopt = (
            update(table)
            .where(_LIVE, nobodys(table.c.instance, instance, alive(database, lease_ms)))
            .values(instance=instance)
        )
        self._database = database
        self._usage = usage
        self._instance = instance or None
        self._insert = database.insert(table).on_conflict_do_nothing().returning(table.c.seq)

    def create(self, session: NewSession) -> StoredSession | OverQuota | ExternalIdInUse | None:
        """See `SessionStore.create`."""
        row = {
            "id": session.id,
            "owner": session.owner,
            "name": session.name,
            "language": session.language,
            "created_at_ms": session.created_at_ms,
            "document": session.document,
            "facts": b"",
            "instance": self._instance,
            "external_id": session.external_id,
            "period": None if session.quota is None else session.quota.period,
            **{column.name: 0 for column in _COUNTED},
        }

        def work(connection: Connection) -> StoredSession | OverQuota | ExternalIdInUse | None:
            for _ in range(MOST_TRIES):
                seq = connection.execute(self._insert, row).scalar()
                if seq is not None:
                    break
                found = self._obstacle(connection, session)
                if found is not None:
                    return found  # else it has ended in between
            else:
                raise RecordsUnavailable("a session could not be kept beside others")
            if session.quota is not None:
                over = self._usage.count(connection, session.owner, session.quota)
                if over is not None:
                    connection.execute(_DISCARD, {"session_id": session.id})
                    return over
            self._tag(connection, seq, session.owner, session.metadata)
            self._usage.add_session(
                connection, session.owner, session.language, session.created_at_ms, SessionUsed(), created=1
            )
            return None

        return self._database.write(work)

    def _obstacle(self, connection: Connection, session: NewSession) -> StoredSession | ExternalIdInUse | None:
        """Return what keeps a session from being inserted, if that is still there."""
        found = connection.execute(_NAMED, {"of": session.owner, "named": session.name}).first()
        if found is not None:
            return _session(found)
        asked = {"of": session.owner, "external": session.external_id}
        return ExternalIdInUse() if connection.execute(_HAS_EXTERNAL_ID, asked).first() is not None else None

    @staticmethod
    def _tag(connection: Connection, seq: int, owner: str, metadata: Mapping[str, str]) -> None:
        rows = [{"digest": tag(owner, name, value), "session_seq": seq} for name, value in metadata.items()]
        if rows:
            connection.execute(insert(session_tags), rows)

    def get(self, owner: str, session_id: str) -> StoredSession | None:
        """See `SessionStore.get`."""
        asked = {"session_id": session_id, "of": owner}
        row = self._database.read(lambda connection: connection.execute(_BY_ID, asked).first())
        return None if row is None else _session(row)

    def find(self, session_id: str) -> StoredSession | None:
        """See `SessionStore.find`."""
        asked = {"session_id": session_id}
        row = self._database.read(lambda connection: connection.execute(_ANYBODYS, asked).first())
        return None if row is None else _session(row)

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        wanted: SessionFilter = NO_FILTER,
    ) -> RecordPage[StoredSession]:
        """See `SessionStore.list`."""
        within = [table.c.owner == owner, *_conditions(owner, wanted)]

        def work(connection: Connection) -> Sequence[Any]:
            statement = select(*_COLUMNS).where(*within).limit(limit + 1)
            owned = (table.c.owner == owner,)
            return connection.execute(
                walk(connection, statement, table, within=owned, after=after, order=order)
            ).all()

        rows = self._database.read(work)
        return RecordPage(tuple(_session(row) for row in rows[:limit]), has_more=len(rows) > limit)

    def live(self) -> tuple[StoredSession, ...]:
        """See `SessionStore.live`."""
        own = table.c.instance.is_(None) if self._instance is None else table.c.instance == self._instance
        statement = select(*_COLUMNS).where(_LIVE, own).order_by(table.c.seq)
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return tuple(_session(row) for row in rows)

    def adopt(self) -> int:
        """See `SessionStore.adopt`."""
        if self._instance is None:
            return 0
        return int(self._database.write(lambda connection: connection.execute(self._adopt).rowcount))

    def change(self, session_id: str, document: bytes, metadata: Mapping[str, str] | None) -> bool:
        """See `SessionStore.change`."""

        def work(connection: Connection) -> bool:
            row = connection.execute(_CHANGE, {"session_id": session_id, "asked": document}).first()
            if row is None:
                return False
            if metadata is not None:
                connection.execute(delete(session_tags).where(session_tags.c.session_seq == row.seq))
                self._tag(connection, row.seq, row.owner, metadata)
            return True

        return self._database.write(work)

    def count(self, uses: tuple[SessionUse, ...], at_ms: int) -> None:
        """See `SessionStore.count`."""

        def work(connection: Connection) -> None:
            for use in uses:
                self._count(connection, use, at_ms)

        self._database.write(work)

    def _count(self, connection: Connection, use: SessionUse, at_ms: int) -> None:
        row = connection.execute(_HOLD.with_for_update(), {"session_id": use.id}).first()
        if row is None:
            return
        owner, language, *before = row
        after = [max(pair) for pair in zip(before, use.used, strict=True)]
        values = {f"new_{column.name}": value for column, value in zip(_COUNTED, after, strict=True)}
        connection.execute(_COUNT, values | {"session_id": use.id, "told": use.facts})
        added = SessionUsed(*(new - old for new, old in zip(after, before, strict=True)))
        self._usage.add_session(connection, owner, language, at_ms, added)

    def end(self, session_id: str, ended_at_ms: int, facts: bytes, used: SessionUsed | None = None) -> bool:
        """See `SessionStore.end`."""
        values = {"session_id": session_id, "at_ms": ended_at_ms, "told": facts}

        def work(connection: Connection) -> bool:
            if used is not None:
                self._count(connection, SessionUse(session_id, used, facts), ended_at_ms)
            return bool(connection.execute(_END, values).rowcount)

        return self._database.write(work)

    def discard(self, session_id: str) -> None:
        """See `SessionStore.discard`."""

        def work(connection: Connection) -> None:
            row = connection.execute(_DISCARD, {"session_id": session_id}).first()
            if row is not None and row.period is not None:
                self._usage.uncount(connection, row.owner, row.period)

        self._database.write(work)


def _conditions(owner: str, wanted: SessionFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.live is not None:
        yield _LIVE if wanted.live else table.c.ended_at_ms.is_not(None)
    if wanted.name is not None:
        yield table.c.name == wanted.name
    if wanted.external_id is not None:
        yield table.c.external_id == wanted.external_id
    if wanted.ids is not None:
        yield table.c.id.in_(wanted.ids)
    if wanted.other_than is not None:
        yield table.c.id.not_in(wanted.other_than)
    for name, value in wanted.metadata.items():
        digest = literal(tag(owner, name, value), LargeBinary)
        yield exists().where(session_tags.c.session_seq == table.c.seq, session_tags.c.digest == digest)


def _session(row: Any) -> StoredSession:  # noqa: ANN401  # a row of _COLUMNS
    session_id, owner, name, language, created_at_ms, ended_at_ms, document, facts = row
    return StoredSession(
        session_id, owner, name, language, created_at_ms, ended_at_ms, bytes(document), bytes(facts)
    )

"""Sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, select, update

from records.page import RecordPage
from records.sessions import NewSession, StoredSession
from records.sql.paging import walk
from records.sql.tables import sessions as table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from records.page import Order
    from records.sql.database import Database

_COLUMNS = (
    table.c.id, table.c.owner, table.c.name, table.c.language, table.c.created_at_ms, table.c.ended_at_ms,
    table.c.document, table.c.facts,
)  # fmt: skip
_LIVE = table.c.ended_at_ms.is_(None)
_BY_ID = select(*_COLUMNS).where(table.c.id == bindparam("session_id"), table.c.owner == bindparam("of"))
_NAMED = select(*_COLUMNS).where(_LIVE, table.c.owner == bindparam("of"), table.c.name == bindparam("named"))
_END = (
    update(table)
    .where(table.c.id == bindparam("session_id"), _LIVE)
    .values(ended_at_ms=bindparam("at_ms"), facts=bindparam("told"))
)


class SqlSessions:
    """`SessionStore`."""

    def __init__(self, database: Database, instance: str) -> None:
        """`instance` is whose the sessions are that are created."""
        self._database = database
        self._instance = instance or None
        self._insert = database.insert(table).on_conflict_do_nothing()

    def create(self, session: NewSession) -> StoredSession | None:
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
        }

        def work(connection: Connection) -> StoredSession | None:
            while not connection.execute(self._insert, row).rowcount:
                found = connection.execute(_NAMED, {"of": session.owner, "named": session.name}).first()
                if found is not None:
                    return _session(found)  # else it has ended in between
            return None

        return self._database.write(work)

    def get(self, owner: str, session_id: str) -> StoredSession | None:
        """See `SessionStore.get`."""
        asked = {"session_id": session_id, "of": owner}
        row = self._database.read(lambda connection: connection.execute(_BY_ID, asked).first())
        return None if row is None else _session(row)

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        live: bool | None = None,
        name: str | None = None,
    ) -> RecordPage[StoredSession]:
        """See `SessionStore.list`."""
        within: list[ColumnElement[bool]] = [table.c.owner == owner]
        if live is not None:
            within.append(_LIVE if live else table.c.ended_at_ms.is_not(None))
        if name is not None:
            within.append(table.c.name == name)

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

    def end(self, session_id: str, ended_at_ms: int, facts: bytes) -> bool:
        """See `SessionStore.end`."""
        values = {"session_id": session_id, "at_ms": ended_at_ms, "told": facts}
        return bool(self._database.write(lambda connection: connection.execute(_END, values).rowcount))

    def discard(self, session_id: str) -> None:
        """See `SessionStore.discard`."""
        statement = delete(table).where(table.c.id == session_id, _LIVE)
        self._database.write(lambda connection: connection.execute(statement))


def _session(row: Any) -> StoredSession:  # noqa: ANN401  # a row of _COLUMNS
    session_id, owner, name, language, created_at_ms, ended_at_ms, document, facts = row
    return StoredSession(
        session_id, owner, name, language, created_at_ms, ended_at_ms, bytes(document), bytes(facts)
    )

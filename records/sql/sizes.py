"""Bytes of records by key: added up when a run ends, taken back when it is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, update

from records.sql.blobs import size_of_run
from records.sql.tables import record_bytes as table
from records.sql.tables import requests, runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection

    from records.sql.database import Database

#: Bytes counted for rows and indexes in addition to their contents.
ROW_BYTES = 512
_TOTAL = select(func.coalesce(func.sum(table.c.bytes), 0))
_OF_KEY = select(table.c.bytes).where(table.c.owner == bindparam("of"))
_LARGEST = (
    select(table.c.owner, table.c.bytes)
    .where(table.c.bytes > bindparam("above"))
    .order_by(table.c.bytes.desc())
    .limit(bindparam("most"))
)
_LESS = update(table).where(table.c.owner == bindparam("of")).values(bytes=table.c.bytes - bindparam("less"))


def kept_bytes() -> ColumnElement[int]:
    """Return what a run takes at its end: its request, wherever that is, and what is given as `more`."""
    body = select(func.length(requests.c.body)).where(requests.c.run_seq == runs.c.seq).scalar_subquery()
    request = func.coalesce(func.length(runs.c.request), body, 0)
    return bindparam("more", type_=runs.c.kept_bytes.type) + request + func.coalesce(size_of_run(), 0)


class SqlSizes:
    """The rows of `record_bytes`, in the caller's transaction or in their own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        new = database.insert(table)
        add = new.on_conflict_do_update(
            index_elements=[table.c.owner], set_={"bytes": table.c.bytes + new.excluded.bytes}
        )
        self._add = database.prepare(add, ("owner", "bytes"))

    def add(self, connection: Connection, owner: str, count: int) -> None:
        """Count a run that has ended."""
        self._add(connection, {"owner": owner, "bytes": count})

    def take_back(self, connection: Connection, gone: Iterable[Any]) -> None:
        """Count runs no more: rows of `owner` and `kept_bytes`."""
        freed: dict[str, int] = {}
        for row in gone:
            freed[row.owner] = freed.get(row.owner, 0) + (row.kept_bytes or 0)
        for owner in sorted(freed):  # in one order everywhere: no two can wait for each other
            connection.execute(_LESS, {"of": owner, "less": freed[owner]})

    def total(self) -> int:
        """Return the bytes of all keys."""
        return int(self._database.read(lambda connection: connection.execute(_TOTAL).scalar()) or 0)

    def of(self, owner: str) -> int:
        """Return the bytes of one key."""
        return self._database.read(lambda connection: connection.execute(_OF_KEY, {"of": owner}).scalar()) or 0

    def largest(self, *, above: int, most: int) -> list[tuple[str, int]]:
        """Return the keys that keep the most, and more than `above` bytes."""
        asked = {"above": above, "most": most}
        rows = self._database.read(lambda connection: connection.execute(_LARGEST, asked).all())
        return [(row.owner, row.bytes) for row in rows]

"""One page of a table by its `seq`, for any filters: a walk along an index, never a sort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from records.errors import UnknownCursor

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select, Table

    from records.page import Order


def walk(
    connection: Connection,
    statement: Select[Any],
    table: Table,
    *,
    within: tuple[ColumnElement[bool], ...],
    after: str | None,
    order: Order,
) -> Select[Any]:
    """Return `statement` limited to the rows after the id `after`, in that order. Raises UnknownCursor.

    `within` is what makes a row one of the caller's: a cursor outside of it is unknown.
    """
    seq = table.c.seq
    if after is not None:
        cursor = connection.execute(select(seq).where(table.c.id == after, *within)).scalar()
        if cursor is None:
            raise UnknownCursor
        statement = statement.where(seq > cursor if order == "asc" else seq < cursor)
    return statement.where(*within).order_by(seq.asc() if order == "asc" else seq.desc())

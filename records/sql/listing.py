"""Lists of runs: first which rows, by an index alone; then their documents, as many as a page may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, or_, select

from records.packing import unpack
from records.runs import ENDED, Run
from records.sql.paging import walk
from records.sql.tables import not_succeeded
from records.sql.tables import runs as table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Select

    from records.page import Order

#: Documents of one page together, unpacked; the first is always there.
PAGE_BYTES = 32 * 1024 * 1024
UNFINISHED_BATCH = 100

COLUMNS = (
    table.c.id, table.c.owner, table.c.status, table.c.language, table.c.attempt, table.c.created_at_ms,
    table.c.ended_at_ms, table.c.document,
)  # fmt: skip
_SIZES = select(table.c.seq, table.c.document_bytes)
_ROWS = select(*COLUMNS).where(table.c.seq.in_(bindparam("seqs", expanding=True)))
_LAST = select(func.max(table.c.seq))
_UNFINISHED = (
    select(table.c.seq, *COLUMNS)
    .where(table.c.ended_at_ms.is_(None), table.c.seq > bindparam("above"), table.c.seq <= bindparam("last"))
    .order_by(table.c.seq)
    .limit(UNFINISHED_BATCH)
)
_OWN = or_(table.c.instance.is_(None), table.c.instance == bindparam("own"))


def run_of(row: Sequence[Any]) -> Run:
    """Return the run of a row of `COLUMNS`."""
    run_id, owner, status, language, attempt, created_at_ms, ended_at_ms, document = row
    return Run(run_id, owner, status, language, attempt, created_at_ms, ended_at_ms, unpack(document))


def page(
    connection: Connection,
    owner: str | None,
    *,
    limit: int,
    after: str | None,
    order: Order,
    status: str | None,
    language: str | None,
) -> tuple[Sequence[Any], bool]:
    """Return the rows of one page, and whether more follow. Raises UnknownCursor.

    `owner` None is every owner: then `status` must not be `succeeded`.
    """
    statement = _SIZES.limit(limit + 1)
    if status is not None:
        statement = statement.where(table.c.status == status)
        if owner is None:  # the indexes of all owners have what did not succeed, or what is live
            statement = statement.where(not_succeeded if status in ENDED else table.c.ended_at_ms.is_(None))
    if language is not None:
        statement = statement.where(table.c.language == language)
    mine: tuple[ColumnElement[bool], ...] = () if owner is None else (table.c.owner == owner,)
    found = connection.execute(walk(connection, statement, table, within=mine, after=after, order=order)).all()
    seqs = fitting(found, limit)
    return rows(connection, seqs, order), len(found) > len(seqs)


def fitting(found: Sequence[Any], limit: int) -> list[int]:
    """Return the `seq` of the first rows of (seq, bytes) that one page holds."""
    seqs: list[int] = []
    room = PAGE_BYTES
    for seq, size in found[:limit]:
        if seqs and size > room:
            break
        seqs.append(seq)
        room -= size
    return seqs


def rows(connection: Connection, seqs: Sequence[int], order: Order) -> Sequence[Any]:
    """Return the rows of `COLUMNS` of those runs."""
    if not seqs:
        return ()
    statement = _ROWS.order_by(table.c.seq.asc() if order == "asc" else table.c.seq.desc())
    return connection.execute(statement, {"seqs": seqs}).all()


def last_seq(connection: Connection) -> int:
    """Return the `seq` of the newest run; 0 if there is none."""
    return connection.execute(_LAST).scalar() or 0


def unfinished(connection: Connection, *, above: int, last: int, own: str, alive: Select[Any]) -> Sequence[Any]:
    """Return a batch of live runs, oldest first: `seq`, then `COLUMNS`. None of another instance in `alive`."""
    statement = _UNFINISHED.where(or_(_OWN, table.c.instance.not_in(alive)))
    return connection.execute(statement, {"above": above, "last": last, "own": own}).all()

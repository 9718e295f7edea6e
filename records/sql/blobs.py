"""Blobs that runs name, inside the runs' own transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, insert, select

from records.files import StoredBlob
from records.runs import RunBlob
from records.sql.tables import run_blobs as table
from records.sql.tables import runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, ScalarSelect

_INSERT = insert(table)
_OF_RUN = (
    select(table.c.part, table.c.area, table.c.sha256, table.c.size)
    .join(runs, runs.c.seq == table.c.run_seq)
    .where(runs.c.id == bindparam("run_id"), table.c.part == bindparam("named"))
)


def add(connection: Connection, run_seq: int, blobs: Sequence[RunBlob]) -> None:
    """Name the blobs of a run."""
    rows = [
        {"run_seq": run_seq, "part": blob.part, "area": blob.area, "sha256": blob.sha256, "size": blob.size}
        for blob in blobs
    ]
    if rows:
        connection.execute(_INSERT, rows)


def find(connection: Connection, run_id: str, part: str) -> RunBlob | None:
    """Return the blob of one part of a run."""
    row: Any = connection.execute(_OF_RUN, {"run_id": run_id, "named": part}).first()
    return None if row is None else RunBlob(*row)


def remove(connection: Connection, seqs: Sequence[int]) -> list[StoredBlob]:
    """Name the blobs of those runs no more, and return them."""
    statement = delete(table).where(table.c.run_seq.in_(seqs)).returning(table.c.area, table.c.sha256)
    return [StoredBlob(row.area, row.sha256) for row in connection.execute(statement)]


def size_of_run() -> ScalarSelect[int]:
    """Return the SQL of the bytes of a run's blobs that are named already."""
    return select(func.sum(table.c.size)).where(table.c.run_seq == runs.c.seq).scalar_subquery()

"""Retention: which rows have had their time is asked of the indexes by a reader; only the deleting writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, select, tuple_

from records.sql.sizes import SqlSizes
from records.sql.tables import files, idempotency, runs, sessions

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

    from records.sql.database import Database
    from records.sql.files import SqlFiles
    from records.sql.runs import SqlRuns

_ENDED = runs.c.ended_at_ms.is_not(None)
_NEWEST_FIRST = (runs.c.ended_at_ms.desc(), runs.c.seq.desc())
_OLDEST_FIRST = (runs.c.ended_at_ms, runs.c.seq)
_TOO_OLD = (
    select(runs.c.seq)
    .where(_ENDED, runs.c.ended_at_ms < bindparam("before_ms"))
    .order_by(*_OLDEST_FIRST)
    .limit(bindparam("most"))
)
#: The newest of those beyond the count: it and all that ended before it have to go.
_FIRST_BEYOND = (
    select(runs.c.ended_at_ms, runs.c.seq).where(_ENDED).order_by(*_NEWEST_FIRST).offset(bindparam("kept")).limit(1)
)
_BEYOND = (
    select(runs.c.seq)
    .where(_ENDED, tuple_(runs.c.ended_at_ms, runs.c.seq) <= tuple_(bindparam("at_ms"), bindparam("at_seq")))
    .order_by(*_OLDEST_FIRST)
    .limit(bindparam("most"))
)
_OF_KEY = (
    select(runs.c.seq, runs.c.kept_bytes)
    .where(runs.c.owner == bindparam("of"), _ENDED)
    .order_by(runs.c.seq)
    .limit(bindparam("most"))
)
_OLD_SESSIONS = (
    select(sessions.c.seq)
    .where(sessions.c.ended_at_ms.is_not(None), sessions.c.ended_at_ms < bindparam("before_ms"))
    .order_by(sessions.c.ended_at_ms)
    .limit(bindparam("most"))
)
_EXPIRED_FILES = (
    select(files.c.seq)
    .where(files.c.expires_at_ms.is_not(None), files.c.expires_at_ms <= bindparam("now_ms"))
    .order_by(files.c.expires_at_ms)
    .limit(bindparam("most"))
)
_EXPIRED_KEYS = (
    select(idempotency.c.owner, idempotency.c.key)
    .where(idempotency.c.expires_at_ms <= bindparam("now_ms"))
    .order_by(idempotency.c.expires_at_ms)
    .limit(bindparam("most"))
)
# Once more by time: a key may have been taken over since it was looked up.
_EXPIRE_KEY = delete(idempotency).where(
    idempotency.c.owner == bindparam("of"),
    idempotency.c.key == bindparam("named"),
    idempotency.c.expires_at_ms <= bindparam("now_ms"),
)


class SqlRetention:
    """`RetentionStore`."""

    def __init__(self, database: Database, runs: SqlRuns, files: SqlFiles) -> None:
        self._database = database
        self._runs = runs
        self._files = files
        self._sizes = SqlSizes(database)

    def sweep_runs(self, *, ended_before_ms: int, keep_at_most: int, batch: int = 200) -> int:
        """See `RetentionStore.sweep_runs`."""
        seqs = self._seqs(_TOO_OLD, before_ms=ended_before_ms, most=batch)
        if len(seqs) < batch:
            beyond = self._database.read(
                lambda connection: connection.execute(_FIRST_BEYOND, {"kept": keep_at_most}).first()
            )
            if beyond is not None:
                asked = {"at_ms": beyond.ended_at_ms, "at_seq": beyond.seq, "most": batch}
                # Both begin with the run that ended first: the longer holds the other.
                seqs = max(seqs, self._seqs(_BEYOND, **asked), key=len)
        if not seqs:
            return 0
        return self._database.write(lambda connection: self._runs.remove(connection, seqs))

    def sweep_sessions(self, *, ended_before_ms: int, batch: int = 200) -> int:
        """See `RetentionStore.sweep_sessions`."""
        seqs = self._seqs(_OLD_SESSIONS, before_ms=ended_before_ms, most=batch)
        if not seqs:
            return 0
        statement = delete(sessions).where(sessions.c.seq.in_(seqs))
        return int(self._database.write(lambda connection: connection.execute(statement).rowcount))

    def sweep_key(self, owner: str, *, keep_bytes: int, batch: int = 200) -> int:
        """See `RetentionStore.sweep_key`."""
        excess = self._sizes.of(owner) - keep_bytes
        if excess <= 0:
            return 0
        asked = {"of": owner, "most": batch}
        seqs: list[int] = []
        for row in self._database.read(lambda connection: connection.execute(_OF_KEY, asked).all()):
            seqs.append(row.seq)
            excess -= row.kept_bytes or 0
            if excess <= 0:
                break
        if not seqs:
            return 0
        return self._database.write(lambda connection: self._runs.remove(connection, seqs))

    def kept_bytes(self) -> int:
        """See `RetentionStore.kept_bytes`."""
        return self._sizes.total()

    def largest_keys(self, *, above: int, most: int) -> list[tuple[str, int]]:
        """See `RetentionStore.largest_keys`."""
        return self._sizes.largest(above=above, most=most)

    def shrink(self, *, pages: int, spare_pages: int) -> int:
        """See `RetentionStore.shrink`."""
        return self._database.shrink(pages, spare_pages)

    def expire_files(self, *, now_ms: int, batch: int = 200) -> int:
        """See `RetentionStore.expire_files`."""
        seqs = self._seqs(_EXPIRED_FILES, now_ms=now_ms, most=batch)
        if not seqs:
            return 0
        return self._database.write(lambda c: self._files.remove(c, files.c.seq.in_(seqs)))

    def expire_idempotency(self, *, now_ms: int, batch: int = 200) -> int:
        """See `RetentionStore.expire_idempotency`."""
        asked = {"now_ms": now_ms, "most": batch}
        found = self._database.read(lambda connection: connection.execute(_EXPIRED_KEYS, asked).all())
        if not found:
            return 0
        rows = [{"of": row.owner, "named": bytes(row.key), "now_ms": now_ms} for row in found]

        def work(connection: Connection) -> int:
            connection.execute(_EXPIRE_KEY, rows)
            return len(rows)

        return self._database.write(work)

    def checkpoint(self) -> None:
        """See `RetentionStore.checkpoint`."""
        self._database.checkpoint()

    def _seqs(self, statement: Select[Any], **asked: int) -> list[int]:
        return self._database.read(lambda connection: list(connection.execute(statement, asked).scalars()))

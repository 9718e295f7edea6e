"""Usage: counted at acceptance against a quota, added up at the end by key, day and language."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, cast, func, select, update

from records.runs import OverQuota
from records.sql.tables import keys, run_counts, usage
from records.usage import Quota, RunUsage, SessionUsed, UsageQuery, UsageRow, UsageTotal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from records.sql.database import Database

#: In the order of SessionUsed, behind the number of sessions.
_SESSION_SUMS = ("sessions", "session_ms", "session_cpu_ms", "session_memory_mb_ms", "egress_bytes")
_SUMS = ("runs", "cpu_ms", "wall_ms", "memory_mb_ms", "bytes_in", "bytes_out", *_SESSION_SUMS)
_COUNTED = select(run_counts.c.runs).where(
    run_counts.c.owner == bindparam("owner"), run_counts.c.period == bindparam("period")
)
_UNCOUNT = (
    update(run_counts)
    .where(
        run_counts.c.owner == bindparam("of"),
        run_counts.c.period == bindparam("during"),
        run_counts.c.runs > 0,
    )
    .values(runs=run_counts.c.runs - 1)
)
_USAGE = (
    select(usage.c.day, usage.c.language, *(usage.c[name] for name in _SUMS))
    .where(usage.c.owner == bindparam("owner"), usage.c.day.between(bindparam("first"), bindparam("last")))
    .order_by(usage.c.day, usage.c.language)
)


class SqlUsage:
    """`UsageStore`, and the two writes that belong to a run's own transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert = database.insert(run_counts)
        count = insert.on_conflict_do_update(
            index_elements=[run_counts.c.owner, run_counts.c.period],
            set_={"runs": run_counts.c.runs + 1},
            where=run_counts.c.runs < bindparam("most"),
        ).returning(run_counts.c.runs)
        self._count = database.prepare(count, ("owner", "period", "runs"))
        insert = database.insert(usage)
        add = insert.on_conflict_do_update(
            index_elements=[usage.c.owner, usage.c.day, usage.c.language],
            set_={name: usage.c[name] + insert.excluded[name] for name in _SUMS},
        )
        self._add = database.prepare(add, ("owner", "day", "language", *_SUMS))

    def count(self, connection: Connection, owner: str, quota: Quota) -> OverQuota | None:
        """Count a run of the period, unless the limit is reached."""
        row = {"owner": owner, "period": quota.period, "runs": 1, "most": quota.limit}
        if quota.limit > 0 and self._count(connection, row).first() is not None:
            return None
        used = connection.execute(_COUNTED, {"owner": owner, "period": quota.period}).scalar() or 0
        return OverQuota(used, quota.limit)

    def uncount(self, connection: Connection, owner: str, period: str) -> None:
        """Take back what `count` did."""
        connection.execute(_UNCOUNT, {"of": owner, "during": period})

    def add(self, connection: Connection, owner: str, language: str, at_ms: int, used: RunUsage) -> None:
        """Add one run that ended at that moment."""
        row = {
            "owner": owner,
            "day": at_ms // 86_400_000,
            "language": language,
            "runs": 1,
            "cpu_ms": used.cpu_ms,
            "wall_ms": used.wall_ms,
            "memory_mb_ms": used.memory_mb_ms,
            "bytes_in": used.bytes_in,
            "bytes_out": used.bytes_out,
            **dict.fromkeys(_SESSION_SUMS, 0),
            "egress_bytes": used.egress_bytes,
        }
        self._add(connection, row)

    def add_session(
        self, connection: Connection, owner: str, language: str, at_ms: int, used: SessionUsed, created: int = 0
    ) -> None:
        """Add what a session used until that moment; `created` is 1 for a new one."""
        row = {
            "owner": owner,
            "day": at_ms // 86_400_000,
            "language": language,
            **dict.fromkeys(_SUMS, 0),
            **dict(zip(_SESSION_SUMS, (created, *used), strict=True)),
        }
        self._add(connection, row)

    def session_usage(self, owner: str, first: date | None) -> tuple[int, int]:
        """See `UsageStore.session_usage`."""
        statement = select(func.sum(usage.c.session_ms), func.sum(usage.c.session_cpu_ms)).where(
            usage.c.owner == owner
        )
        if first is not None:
            statement = statement.where(usage.c.day >= _day(first))
        row = self._database.read(lambda connection: connection.execute(statement).one())
        return int(row[0] or 0), int(row[1] or 0)

    def usage(self, owner: str, first: date, last: date) -> tuple[UsageRow, ...]:
        """See `UsageStore.usage`."""
        asked = {"owner": owner, "first": _day(first), "last": _day(last)}
        rows = self._database.read(lambda connection: connection.execute(_USAGE, asked).all())
        return tuple(UsageRow(_date(row.day), *row[1:]) for row in rows)

    def report(self, asked: UsageQuery, *, limit: int) -> tuple[UsageTotal, ...]:
        """See `UsageStore.report`."""
        groups = {"key": usage.c.owner, "plan": keys.c.plan, "language": usage.c.language, "day": usage.c.day}
        by = [groups[name] for name in asked.by]
        statement = (
            select(*by, *(cast(func.sum(usage.c[name]), BigInteger).label(name) for name in _SUMS))
            .where(usage.c.day.between(_day(asked.first), _day(asked.last)))
            .group_by(*by)
            .order_by(*(column.asc().nulls_first() for column in by))
            .limit(limit)
        )
        if asked.owner is not None:
            statement = statement.where(usage.c.owner == asked.owner)
        if asked.language is not None:
            statement = statement.where(usage.c.language == asked.language)
        if asked.plan is not None:
            statement = statement.where(keys.c.plan == asked.plan)
        if asked.plan is not None or "plan" in asked.by:
            statement = statement.select_from(usage.outerjoin(keys, keys.c.id == usage.c.owner))
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return tuple(_total(asked.by, row) for row in rows if row.runs is not None)

    def counted(self, owner: str, period: str) -> int:
        """See `UsageStore.counted`."""
        asked = {"owner": owner, "period": period}
        return self._database.read(lambda connection: connection.execute(_COUNTED, asked).scalar()) or 0


_EPOCH = date(1970, 1, 1)


def _total(by: tuple[str, ...], row: Sequence[Any]) -> UsageTotal:
    group = dict(zip(by, row, strict=False))
    day = group.get("day")
    return UsageTotal(
        group.get("key"),
        group.get("plan"),
        group.get("language"),
        None if day is None else _date(day),
        *row[len(by) :],
    )


def _day(day: date) -> int:
    return (day - _EPOCH).days


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * 86_400, UTC).date()

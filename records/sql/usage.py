"""Usage: counted at acceptance against a quota, added up at the end by key, day and language."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from records.runs import OverQuota
from records.sql.tables import run_counts, usage
from records.usage import Quota, RunUsage, UsageRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from records.sql.database import Database

_SUMS = ("runs", "cpu_ms", "wall_ms", "memory_mb_ms", "bytes_in", "bytes_out")
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
        }
        self._add(connection, row)

    def usage(self, owner: str, first: date, last: date) -> tuple[UsageRow, ...]:
        """See `UsageStore.usage`."""
        asked = {"owner": owner, "first": _day(first), "last": _day(last)}
        rows = self._database.read(lambda connection: connection.execute(_USAGE, asked).all())
        return tuple(UsageRow(_date(row.day), *row[1:]) for row in rows)

    def counted(self, owner: str, period: str) -> int:
        """See `UsageStore.counted`."""
        asked = {"owner": owner, "period": period}
        return self._database.read(lambda connection: connection.execute(_COUNTED, asked).scalar()) or 0


_EPOCH = date(1970, 1, 1)


def _day(day: date) -> int:
    return (day - _EPOCH).days


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * 86_400, UTC).date()

"""Leases: each acquisition is a transaction of its own, by the database's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, and_, bindparam, delete, literal_column, or_, select, text, update

from records.leases import LEASE_MS, Holder, Instance, may_share
from records.sql.tables import instances as table

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

    from records.sql.database import Database

#: Milliseconds since the epoch as the database counts them: clocks of several machines may differ.
_SQLITE_NOW = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_POSTGRESQL_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
#: Any number that other users of the same database are unlikely to lock, and that migrations do not.
_ADVISORY_LOCK = 0x52756E794C6561
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")


def now_of(database: Database) -> ColumnElement[int]:
    """Return the SQL expression of the database's own time."""
    return literal_column(_SQLITE_NOW if database.is_sqlite else _POSTGRESQL_NOW, BigInteger)


def alive(database: Database, lease_ms: int = LEASE_MS) -> Select[Any]:
    """Return the SELECT of the ids of instances whose lease is alive."""
    return select(table.c.id).where(table.c.heartbeat_ms > now_of(database) - lease_ms)


def nobodys(instance: ColumnElement[str], own: str, living: Select[Any]) -> ColumnElement[bool]:
    """Return the condition that a row belongs to no instance, or to one that is neither `own` nor `alive`."""
    return or_(instance.is_(None), and_(instance != own, instance.not_in(living)))


class SqlLeases:
    """`LeaseStore`."""

    def __init__(self, database: Database, lease_ms: int = LEASE_MS) -> None:
        self._database = database
        self.lease_ms = lease_ms
        now = now_of(database)
        mine = and_(
            table.c.id == bindparam("own"), or_(table.c.host == bindparam("at"), table.c.boot == bindparam("since"))
        )
        is_alive = table.c.heartbeat_ms > now - lease_ms
        this_start = and_(mine, table.c.start == bindparam("started"))
        living = (
            select(
                table.c.id,
                table.c.host,
                table.c.heartbeat_ms,
                (now - table.c.heartbeat_ms).label("age_ms"),
                table.c.queue,
                table.c.signing,
            )
            .where(is_alive)
            .order_by(table.c.heartbeat_ms.desc())
        )
        self._others, self._other_starts = living.where(~mine), living.where(~this_start)
        self._forget = delete(table).where(~is_alive)
        self._beat = update(table).where(this_start).values(heartbeat_ms=now)
        self._release = delete(table).where(this_start)
        new = database.insert(table).values(heartbeat_ms=now)
        self._take = new.on_conflict_do_update(
            index_elements=[table.c.id],
            set_={
                name: new.excluded[name] for name in ("host", "boot", "heartbeat_ms", "queue", "signing", "start")
            },
        )

    def acquire(self, instance: Instance, *, again: bool = False) -> Holder | None:
        """See `LeaseStore.acquire`."""

        def work(connection: Connection) -> Holder | None:
            if not self._database.is_sqlite:  # there one writes at a time anyway
                connection.execute(_LOCK, {"key": _ADVISORY_LOCK})
            others = self._other_starts if again else self._others
            for row in connection.execute(others, _named(instance)).all():
                other = _holder(row)
                if not may_share(instance, other):
                    return other
            connection.execute(self._forget)
            connection.execute(self._take, _row(instance))
            return None

        return self._database.write(work)

    def beat(self, instance: Instance) -> bool:
        """See `LeaseStore.beat`."""
        return self._database.write(lambda c: c.execute(self._beat, _named(instance)).rowcount) > 0

    def release(self, instance: Instance) -> None:
        """See `LeaseStore.release`."""
        self._database.write(lambda c: c.execute(self._release, _named(instance)))


def _row(instance: Instance) -> dict[str, str | None]:
    return {
        "id": instance.id,
        "host": instance.host,
        "boot": instance.boot,
        "queue": instance.queue,
        "signing": ",".join(instance.signing),
        "start": instance.start,
    }


def _holder(row: Any) -> Holder:  # noqa: ANN401  # a row of `_others`
    instance_id, host, heartbeat_ms, age_ms, queue, signing = row
    return Holder(instance_id, host, heartbeat_ms, age_ms, queue, tuple(signing.split(",")) if signing else ())


def _named(instance: Instance) -> dict[str, str]:
    return {"own": instance.id, "at": instance.host, "since": instance.boot, "started": instance.start}

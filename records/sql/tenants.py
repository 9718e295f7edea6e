"""The owners of labels: one row for each label that was ever valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, text, update

from records.sql.tables import files, runs, usage
from records.sql.tables import tenants as table
from records.tenants import StaticTenant, TenantsWouldMerge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from records.sql.database import Database

#: Any number that other users of the same database are unlikely to lock, and that nothing else here does.
_ADVISORY_LOCK = 0x52756E7954656E
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_ALL = select(table.c.label, table.c.owner)
#: Tables whose rows are a tenant's history.
_HISTORY = tuple(
    select(kept.c.owner).where(kept.c.owner == bindparam("of")).limit(1) for kept in (runs, usage, files)
)
_CHANGE = update(table).where(table.c.label == bindparam("named")).values(owner=bindparam("of"))


class SqlTenants:
    """`TenantStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def assign(self, tenants: Sequence[StaticTenant]) -> dict[str, str]:
        """See `TenantStore.assign`."""

        def work(connection: Connection) -> dict[str, str]:
            if not self._database.is_sqlite:  # there one writes at a time anyway
                connection.execute(_LOCK, {"key": _ADVISORY_LOCK})
            recorded: dict[str, str] = {row.label: row.owner for row in connection.execute(_ALL)}
            for tenant in tenants:
                owner = _owner_of(connection, tenant, recorded)
                if tenant.label not in recorded:
                    connection.execute(table.insert(), {"label": tenant.label, "owner": owner})
                elif recorded[tenant.label] != owner:
                    connection.execute(_CHANGE, {"named": tenant.label, "of": owner})
                recorded[tenant.label] = owner
            return {tenant.label: recorded[tenant.label] for tenant in tenants}

        return self._database.write(work) if tenants else {}

    def owners(self) -> frozenset[str]:
        """See `TenantStore.owners`."""
        return frozenset(
            row.owner for row in self._database.read(lambda connection: connection.execute(_ALL).all())
        )


def _owner_of(connection: Connection, tenant: StaticTenant, recorded: dict[str, str]) -> str:
    """Return the owner of a label: what is recorded, or a former owner that has rows, or a new one."""
    taken = set(recorded.values())
    own = recorded.get(tenant.label)
    found = [
        index for index, owner in enumerate(tenant.former) if owner not in taken and _has_history(connection, owner)
    ]
    if len(found) > 1 or (found and own is not None and _has_history(connection, own)):
        raise TenantsWouldMerge(tenant.label, tuple(found))
    if found:
        return tenant.former[found[0]]
    return own or tenant.owner


def _has_history(connection: Connection, owner: str) -> bool:
    return any(connection.execute(rows, {"of": owner}).first() is not None for rows in _HISTORY)

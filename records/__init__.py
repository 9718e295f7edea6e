"""Records: runs, their events, files, keys and usage, kept in SQLite or PostgreSQL.

    migrate(url)                      # once, at start, before anything else; by any number of processes
    records = open_records(url)       # after a fork
    records.runs.accept(...); records.runs.finish(...)
    records.close()

Each part is described by the Protocols in `records.runs`, `.files`, `.keys`, `.usage`, `.leases`,
`.sessions`, `.functions`, `.tenants` and `.retention`.
No code outside this package sees SQL. SQLAlchemy is loaded when a database is opened, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.clock import now_ms
from records.leases import LEASE_MS

if TYPE_CHECKING:
    from records.files import FileStore
    from records.functions import FunctionStore
    from records.keys import KeyStore
    from records.leases import LeaseStore
    from records.retention import RetentionStore
    from records.runs import RunStore
    from records.sessions import SessionStore
    from records.tenants import TenantStore
    from records.usage import UsageStore


@dataclass(frozen=True, slots=True)
class Records:
    """An open database, by subject."""

    runs: RunStore
    files: FileStore
    keys: KeyStore
    usage: UsageStore
    retention: RetentionStore
    leases: LeaseStore
    sessions: SessionStore
    functions: FunctionStore
    tenants: TenantStore
    #: Raises RecordsUnavailable if the database does not answer.
    ping: Callable[[], None]
    close: Callable[[], None]


def migrate(url: str) -> bool:
    """Make the tables, or bring them to this version; whether there was anything to do.

    Raises RecordsUnavailable, RecordsTooNew, and ValueError for a URL that is none.
    """
    from records.sql.database import parse_url
    from records.sql.migrate import migrate as migrate_to_head

    return migrate_to_head(parse_url(url))


def open_records(
    url: str,
    *,
    connections: int = 8,
    wait_s: float = 5,
    clock: Callable[[], int] | None = None,
    instance: str = "",
    lease_ms: int = LEASE_MS,
) -> Records:
    """Return the records in the database of that URL, migrated before. It connects when it is first used.

    `connections` are the most that are open (SQLite: for reading), `wait_s` how long a call may wait for one or
    for a lock before it raises RecordsUnavailable, `clock` returns the milliseconds since the epoch, `instance`
    owns the runs that are accepted, and `lease_ms` how long a lease lasts (`records.leases`).
    """
    from records.sql.database import Database, parse_url
    from records.sql.files import SqlFiles
    from records.sql.functions import SqlFunctions
    from records.sql.keys import SqlKeys
    from records.sql.leases import SqlLeases
    from records.sql.retention import SqlRetention
    from records.sql.runs import SqlRuns
    from records.sql.sessions import SqlSessions
    from records.sql.tenants import SqlTenants
    from records.sql.usage import SqlUsage

    moment_ms = clock or now_ms
    database = Database(parse_url(url), connections=connections, wait_s=wait_s)
    files, usage = SqlFiles(database, moment_ms), SqlUsage(database)
    runs = SqlRuns(database, files, usage, instance, lease_ms)
    return Records(
        runs=runs,
        files=files,
        keys=SqlKeys(database, moment_ms),
        usage=usage,
        retention=SqlRetention(database, runs, files),
        leases=SqlLeases(database, lease_ms),
        sessions=SqlSessions(database, usage, instance, lease_ms),
        functions=SqlFunctions(database, files),
        tenants=SqlTenants(database),
        ping=database.ping,
        close=database.close,
    )

"""Bringing a database to this version's tables, once, however many processes start together."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from records.errors import RecordsTooNew, RecordsUnavailable

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)

#: The newest revision in migrations/versions; a test compares. Known here so that a start that has nothing to
#: migrate does not load Alembic.
HEAD = "0011"
LOCK_WITHIN_S = 60.0
#: SQLite's number of that mode.
INCREMENTAL = 2
#: Bytes that must stay free in addition to twice the file's size while it is rewritten.
SPARE_BYTES = 64 * 1024 * 1024
_POLL_S = 0.05
#: Any number that other users of the same database are unlikely to lock.
_ADVISORY_LOCK = 0x52756E79617264
_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(url: URL) -> bool:
    """Upgrade the schema. Returns whether anything changed. Safe to be called by several processes at once.

    Raises RecordsUnavailable, and RecordsTooNew when the database is ahead of this version.
    """
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        if engine.dialect.name == "sqlite":
            return _migrate_sqlite(engine, Path(url.database or ""))
        return _migrate_postgresql(engine)
    except (DBAPIError, sqlite3.DatabaseError) as e:
        raise RecordsUnavailable("the database cannot be opened") from e
    except OSError as e:
        raise RecordsUnavailable(f"the database's directory cannot be used ({e.strerror})") from e


def revision(connection: Connection) -> str | None:
    """Read the revision of a database; None if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _migrate_sqlite(engine: Engine, path: Path) -> bool:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A lock of our own: while a file is being switched to WAL, SQLite refuses others at once instead of waiting.
    with _file_lock(path.with_name(path.name + ".lock")), engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        _make_shrinkable(driver, path)
        if driver.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
            raise RecordsUnavailable("the file system of the database has no shared memory (WAL)")
        connection.rollback()
        driver.isolation_level = None
        driver.execute("BEGIN IMMEDIATE")
        changed = _upgrade(connection)
        connection.commit()
        return changed


def _make_shrinkable(driver: Any, path: Path) -> None:  # noqa: ANN401  # the driver's own connection
    """Enable the return of freed pages to the file system (`PRAGMA incremental_vacuum`).

    An older file must be rewritten once for this. It is left unchanged if the disk has no room.
    """
    if driver.execute("PRAGMA auto_vacuum").fetchone() == (INCREMENTAL,):
        return
    size = path.stat().st_size
    if shutil.disk_usage(path.parent).free < 2 * size + SPARE_BYTES:
        log.warning(
            "the database's file is not made shrinkable: the disk has too little room", extra={"bytes": size}
        )
        return
    driver.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
    if size:
        driver.execute("VACUUM")


def _migrate_postgresql(engine: Engine) -> bool:
    with engine.begin() as connection:
        if revision(connection) == HEAD:
            return False
        connection.execute(text(f"SET LOCAL lock_timeout = '{int(LOCK_WITHIN_S)}s'"))
        # Held until the commit; the second to come finds all done.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        return _upgrade(connection)


def _upgrade(connection: Connection) -> bool:
    found = revision(connection)
    if found == HEAD:
        return False
    # Loading it takes longer than a start: only when there is something to do.
    from alembic import command
    from alembic.util.exc import CommandError

    try:
        command.upgrade(alembic_config(connection), HEAD)
    except CommandError as e:
        raise RecordsTooNew(f"the database is at revision {found}, which this version does not know") from e
    return True


def alembic_config(connection: Connection) -> Config:
    """Make Alembic's configuration for this connection, without an ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + LOCK_WITHIN_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as e:
                if time.monotonic() > deadline:
                    raise RecordsUnavailable("another process has been migrating the database for long") from e
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)

"""Copies of an SQLite database: taken of one moment, read, and checked. Standard library only, for backups."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from records.errors import RecordsUnavailable

#: Seconds for which a locked database is waited for.
WAIT_S = 30.0
SNAPSHOT = ".backup.sqlite"
LOCK = SNAPSHOT + ".lock"
#: Suffixes of a database and of SQLite's further files.
SUFFIXES = ("", "-wal", "-shm", "-journal")
#: Tables that name blobs.
NAMING = ("files", "run_blobs", "function_blobs")


@contextmanager
def snapshot(database: Path) -> Iterator[Path]:
    """Make a consistent copy of the records next to them for the duration of the block.

    By SQLite's online backup in one step: with a write-ahead log it delays no writer. Raises RecordsUnavailable if
    it cannot be made, or another one is being made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(database.with_name(LOCK), flags, 0o600)
    copy = database.with_name(SNAPSHOT)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise RecordsUnavailable("another backup of this service is being made") from e
        try:
            copy.unlink(missing_ok=True)  # of a backup that was killed
            try:
                with (
                    closing(sqlite3.connect(_uri(database, "mode=ro"), uri=True, timeout=WAIT_S)) as source,
                    closing(sqlite3.connect(copy)) as target,
                ):
                    source.backup(target)
            except sqlite3.Error as e:
                raise RecordsUnavailable(f"the records cannot be copied: {e}") from e
            yield copy
        finally:
            for suffix in SUFFIXES:
                copy.with_name(copy.name + suffix).unlink(missing_ok=True)
    finally:
        os.close(lock)


def contents(copy: Path) -> tuple[str, list[tuple[str, str]]]:
    """Return the revision of a copy, and area and hash of every blob that it names, each once.

    Raises RecordsUnavailable if it cannot be read.
    """
    try:
        with closing(sqlite3.connect(_uri(copy, "mode=ro&immutable=1"), uri=True)) as records:
            (revision,) = records.execute("SELECT version_num FROM alembic_version").fetchone()
            tables = {name for (name,) in records.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            selects = [f"SELECT area, sha256 FROM {name}" for name in NAMING if name in tables]  # noqa: S608
            return str(revision), sorted(set(records.execute(" UNION ".join(selects)).fetchall()))
    except (sqlite3.Error, TypeError) as e:
        raise RecordsUnavailable(f"the records cannot be read: {e}") from e


def is_intact(database: Path, revisions: Sequence[str]) -> bool:
    """Return whether SQLite finds no damage, no trigger and no view, and one of these revisions."""
    try:
        with closing(sqlite3.connect(database)) as records:
            records.execute("PRAGMA trusted_schema=OFF")
            if records.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return False
            code = "SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')"
            if records.execute(code).fetchone() != (0,):
                return False
            (revision,) = records.execute("SELECT version_num FROM alembic_version").fetchone()
            return revision in revisions
    except (sqlite3.Error, TypeError):
        return False


def _uri(path: Path, options: str) -> str:
    return f"file:{quote(str(path))}?{options}"

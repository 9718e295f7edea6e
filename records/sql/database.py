"""Connections and transactions: the same two verbs, `read` and `write`, over SQLite and PostgreSQL.

SQLite always has one writer at a time, so there is one writing connection, handed from thread to thread
(`writer.py`), and a few for reading, which a writer never delays (WAL). Waiting for a connection is bounded.
Joining several transactions into one commit was considered: a commit here is a write without a sync, and over
1 000 a second go through one connection, several times what the service can run.

PostgreSQL has one small pool for both.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import URL, ClauseElement, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from records.errors import RecordsUnavailable
from records.sql.prepared import Prepared
from records.sql.writer import CommitFailedError, DatabaseWriter

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds that a call may wait for a connection, a lock, or an answer to a connect.
WAIT_S = 5
STATEMENT_MS = 15_000
#: The number of retries of a transaction that failed before its commit, and the longest time for them.
REPEATS = 3
REPEAT_WITHIN_S = 0.05
#: Checkpoints are made on a thread of their own (`checkpoint`); the writer makes one itself only when that fell
#: far behind: 64 MiB of 4 KiB pages.
AUTOCHECKPOINT_PAGES = 16_384
_WAL_KEPT_BYTES = 64 * 1024 * 1024
#: A connection's page cache in memory. A reader's cache is void after each write of another
#: connection, and the kernel has the file anyway: theirs is small, or eight would take 128 MiB for nothing. For the
#: writer 16 MiB were no quicker than 4 (34 000 runs, 23 MiB of records).
_WRITER_CACHE_KIB, _READER_CACHE_KIB = 4 * 1024, 2 * 1024


def parse_url(text_url: str) -> URL:
    """Parse a URL as SQLAlchemy takes it. Raises ValueError with a sentence that does not show it (a password)."""
    try:
        url = make_url(text_url.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError):
        # Without its cause, which may show a part of a password.
        raise ValueError("is not a database URL") from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite":
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if not url.database or url.database == ":memory:" or url.query:
        raise ValueError("must name a file, as sqlite:////absolute/path, and nothing else")
    return url


class Database:
    """One database, open. To be made after a fork, and closed."""

    def __init__(self, url: URL, *, connections: int = 8, wait_s: float = WAIT_S) -> None:
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._answers = True
        if self.is_sqlite:
            self._writer = _sqlite_engine(url, size=1, wait_s=wait_s, cache_kib=_WRITER_CACHE_KIB)
            self._reader = _sqlite_engine(url, size=connections, wait_s=wait_s, cache_kib=_READER_CACHE_KIB)
            self._one = DatabaseWriter(self._writer, wait_s=wait_s)
        else:
            self._writer = self._reader = _postgresql_engine(url, size=connections, wait_s=wait_s)

    def insert(self, table: Any) -> Any:  # noqa: ANN401  # the two dialects' Insert have no common type
        """Return an INSERT that supports ON CONFLICT, in the SQL dialect in use."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def prepare(self, statement: ClauseElement, columns: Iterable[str] | None = None) -> Prepared:
        """Compile the statement for this database; see `Prepared`."""
        return Prepared(self._writer.dialect, statement, columns)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, in a transaction and return its result. Raises RecordsUnavailable."""
        return self._transact(self._reader, work)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction and commit it; an exception of its own rolls back and goes through.

        Raises RecordsUnavailable. `work` is called again if the connection turned out to be lost, or a deadlock was
        broken at its cost, before the commit was sent; after that, only the server knows the result.
        """
        return self._transact(self._writer, work)

    def ping(self) -> None:
        """Check that the database answers. Raises RecordsUnavailable."""
        self.read(lambda connection: connection.execute(_PING).scalar())

    def checkpoint(self) -> None:
        """Write SQLite's log to its database file, without delaying a writer; do nothing for other databases."""
        if not self.is_sqlite:
            return
        with self._translated(), self._reader.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def shrink(self, pages: int, spare_pages: int) -> int:
        """Give up to `pages` freed pages of SQLite back, but `spare_pages`; return how many (0 elsewhere)."""
        if not self.is_sqlite:
            return 0

        free = self.read(_freed_pages)
        given = min(pages, free - spare_pages)
        if given <= 0:
            return 0

        def work(connection: Connection) -> int:
            driver = connection.connection.driver_connection
            assert driver is not None
            for _ in range(given):  # the driver takes one step of the statement, which frees one page
                driver.execute("PRAGMA incremental_vacuum(1)")
            return max(0, free - _freed_pages(connection))

        return self.write(work)

    def close(self) -> None:
        """Close every connection."""
        if self.is_sqlite:
            self._one.close()
        self._reader.dispose()
        self._writer.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn errors of the database and its pool into RecordsUnavailable; log when an outage begins and ends."""
        try:
            yield
        except PoolTimeout as e:
            raise RecordsUnavailable("the database is too busy") from e
        except DBAPIError as e:
            if _is_ours(e):
                raise
            raise self._unavailable(e.orig) from e
        except CommitFailedError as e:
            raise self._unavailable(e.__cause__) from e
        except sqlite3.DatabaseError as e:  # from direct calls of the driver
            if isinstance(e, _SQLITES_OURS):
                raise
            raise self._unavailable(e) from e
        if not self._answers:
            self._answers = True
            log.warning("the database can be used again")

    def _unavailable(self, reason: BaseException | None) -> RecordsUnavailable:
        if self._answers:
            self._answers = False
            log.warning("the database cannot be used: %s", type(reason).__name__)
        return RecordsUnavailable()

    def _transact(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        with self._translated():
            for _ in range(REPEATS):
                try:
                    return self._once(engine, work)
                except DBAPIError as e:
                    if not _may_repeat(e):
                        raise
                    # Not at once: the other one of a deadlock has to get its lock first.
                    time.sleep(random.uniform(0, REPEAT_WITHIN_S))  # noqa: S311
            return self._once(engine, work)

    def _once(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        if self.is_sqlite and engine is self._writer:
            return self._one.transact(work)
        with engine.connect() as connection:
            if self.is_sqlite:
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.execute("BEGIN")
            result = work(connection)
            try:
                connection.commit()
            except DBAPIError as e:
                raise CommitFailedError from e
            return result


_PING = text("SELECT 1")


def _freed_pages(connection: Connection) -> int:
    driver = connection.connection.driver_connection
    assert driver is not None
    return int(driver.execute("PRAGMA freelist_count").fetchone()[0])


#: The driver's exceptions for a statement or a value that every database rejects.
_SQLITES_OURS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)


def _is_ours(error: DBAPIError) -> bool:
    """Return whether a statement or a value is one that no database would take: a fault of this code."""
    ours = isinstance(error, IntegrityError | DataError | ProgrammingError)
    return ours and not error.connection_invalidated


def _may_repeat(error: DBAPIError) -> bool:
    """Return whether the transaction may be repeated: its connection was lost before, or a deadlock ended it."""
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in {"40001", "40P01"}


def _sqlite_engine(url: URL, *, size: int, wait_s: float, cache_kib: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=wait_s,
        pool_use_lifo=True,  # one reader at a time needs the pages of one connection
        hide_parameters=True,
        # The driver begins no transaction itself; `timeout` is how long another process's write is waited for.
        connect_args={"isolation_level": None, "timeout": wait_s, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:  # noqa: ANN401
        for pragma in (
            "synchronous=NORMAL",
            "foreign_keys=ON",
            f"wal_autocheckpoint={AUTOCHECKPOINT_PAGES}",
            f"journal_size_limit={_WAL_KEPT_BYTES}",
            f"cache_size=-{cache_kib}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _postgresql_engine(url: URL, *, size: int, wait_s: float) -> Engine:
    bounds = {
        "statement_timeout": STATEMENT_MS,
        "lock_timeout": int(wait_s * 1000),
        "idle_in_transaction_session_timeout": STATEMENT_MS,
    }
    defaults: dict[str, Any] = {
        "connect_timeout": max(2, int(wait_s)),
        "options": " ".join(f"-c {name}={value}" for name, value in bounds.items()),
        "application_name": "runyard",
        # A server that vanished without closing the connection is noticed, also in the middle of a statement.
        "tcp_user_timeout": int(wait_s * 1000),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=wait_s,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={name: value for name, value in defaults.items() if name not in url.query},
    )

"""SQLite's one writing connection.

A run's two transactions go through here. A pool and its bookkeeping took as much time for each as
SQLite itself, so the connection stays checked out and a lock passes it from thread to thread.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from records.errors import RecordsUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

T = TypeVar("T")


class CommitFailedError(Exception):
    """A commit was sent and not confirmed: not to be repeated."""


class DatabaseWriter:
    """Makes transactions, one at a time. Safe for many threads."""

    def __init__(self, engine: Engine, *, wait_s: float) -> None:
        """Create the writer; a thread waits at most `wait_s` seconds for its turn."""
        self._engine = engine
        self._wait_s = wait_s
        self._turn = threading.Lock()
        self._kept: Connection | None = None

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction and commit it. Raises RecordsUnavailable when its turn does not come."""
        if not self._turn.acquire(timeout=self._wait_s):
            raise RecordsUnavailable("the database is too busy")
        try:
            if self._kept is None:
                self._kept = self._engine.connect()
            return _transact(self._kept, work)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Give the connection back, when no other thread has its turn any more."""
        with self._turn:
            if self._kept is not None:
                self._kept.close()
                self._kept = None


def _transact(connection: Connection, work: Callable[[Connection], T]) -> T:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    # Executed here and not by an event: an engine with events looks for them at every statement.
    driver.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        try:
            driver.execute("COMMIT")
        except sqlite3.Error as e:
            raise CommitFailedError from e
    except BaseException:
        driver.rollback()
        raise
    finally:
        connection.rollback()  # what it has begun for statements of its own has been ended above
    return result

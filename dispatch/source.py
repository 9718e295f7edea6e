"""The place where a stream of messages waits for the next one, so that its reader need not hold a thread for that.

A reader that may wait elsewhere gives a `MessageSource` to a call of the dispatcher. The iterator then yields
NOTHING_YET once it has asked, and the source tells what the next message depends on: a descriptor that becomes
readable, or a moment. Between two messages the iterator is suspended, and any thread may go on with it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The worker has been asked and has not answered.
NOTHING_YET: dict[str, Any] = {}


class MessageConnection(Protocol):
    """A connection to the worker, as far as its reader waits for it."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when more has come."""
        ...

    def has_message(self) -> bool:
        """Return whether the next message can be read without a wait."""
        ...

    def expire(self) -> None:
        """Make the next wait fail, as if its time were over."""
        ...

    def abandon(self) -> None:
        """Close it, when the time comes, as a process that is killed does: without a farewell."""
        ...


class MessageSource:
    """The connection or the moment that an iterator of messages depends on. Used by one thread at a time."""

    def __init__(self) -> None:
        self._connection: MessageConnection | None = None
        self._until: float | None = None
        self._is_ahead = False
        #: Seconds of silence after which the connection is to expire.
        self.silent_s = 0.0

    @contextmanager
    def reading(self, connection: MessageConnection, silent_s: float) -> Iterator[None]:
        """Let it be this connection that the next message depends on. `silent_s`: see the attribute."""
        self._connection, self.silent_s = connection, silent_s
        try:
            yield
        finally:
            self._connection = None

    def note_read_ahead(self) -> None:
        """Note that the first message has been read, and is to be passed on without a wait."""
        self._is_ahead = True

    def sleep(self, seconds: float) -> None:
        """Let it be a moment that the next message depends on."""
        self._until = time.monotonic() + seconds

    def sleeps_until(self) -> float | None:
        """Return the moment that the next message depends on, of `time.monotonic`; None if it has come."""
        if self._until is not None and time.monotonic() >= self._until:
            self._until = None
        return self._until

    def waits_on(self) -> int | None:
        """Return the descriptor that the next message depends on; None if it can be read without a wait."""
        if self._is_ahead:
            self._is_ahead = False
            return None
        connection = self._connection
        return None if connection is None or connection.has_message() else connection.fileno()

    def expire(self) -> None:
        """Make the next wait fail, as if its time were over."""
        if self._connection is not None:
            self._connection.expire()

    def abandon(self) -> None:
        """Leave the worker as a process that is killed does, when the iterator is closed."""
        if self._connection is not None:
            self._connection.abandon()

"""Sessions: the request that created one, when it was created, and when and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from records.page import Order, RecordPage


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that is being created. `document` is what was asked for, as a JSON object."""

    id: str
    owner: str
    name: str | None
    language: str
    created_at_ms: int
    document: bytes


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it is kept. `facts` is what the worker told of it last, a JSON object; empty before its end."""

    id: str
    owner: str
    name: str | None
    language: str
    created_at_ms: int
    ended_at_ms: int | None
    document: bytes
    facts: bytes

    @property
    def ended(self) -> bool:
        """Return whether it has ended."""
        return self.ended_at_ms is not None


class SessionStore(Protocol):
    """Keeps sessions. Raises RecordsUnavailable."""

    def create(self, session: NewSession) -> StoredSession | None:
        """Keep a session; of two with one name of the same owner that live only one can be.

        Returns None when it is kept, or else the one that has the name.
        """
        ...

    def get(self, owner: str, session_id: str) -> StoredSession | None:
        """Return the session of that owner, or None: unknown, forgotten and another's look the same."""
        ...

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        live: bool | None = None,
        name: str | None = None,
    ) -> RecordPage[StoredSession]:
        """List the owner's sessions, the newest first unless asked otherwise. Raises UnknownCursor."""
        ...

    def live(self) -> tuple[StoredSession, ...]:
        """Return the sessions that this instance has created and that have not ended."""
        ...

    def end(self, session_id: str, ended_at_ms: int, facts: bytes) -> bool:
        """Record an end. Returns False, and changes nothing, if it has ended or is unknown."""
        ...

    def discard(self, session_id: str) -> None:
        """Forget a session that was not created after all."""
        ...

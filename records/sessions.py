"""Sessions: what was asked for, when each was created, what it has used, and when and why it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from records.page import Order, RecordPage

if TYPE_CHECKING:
    from records.runs import OverQuota
    from records.usage import Quota, SessionUsed


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that is being created. `document` is what was asked for, as a JSON object."""

    id: str
    owner: str
    name: str | None
    language: str
    created_at_ms: int
    document: bytes
    external_id: str | None = None
    #: The session can be found by each of these names and values.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: It counts as a run of this.
    quota: Quota | None = None


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A stored session. `facts` is the worker's last report, a JSON object; empty before the first."""

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


@dataclass(frozen=True, slots=True)
class ExternalIdInUse:
    """The owner has given the external id to another session."""


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """The sessions that are listed; None and empty is any. All that is given must hold."""

    live: bool | None = None
    name: str | None = None
    external_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Only these, or all but these.
    ids: tuple[str, ...] | None = None
    other_than: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SessionUse:
    """The usage of a session since its creation; `facts` as in StoredSession."""

    id: str
    used: SessionUsed
    facts: bytes


class SessionStore(Protocol):
    """Keeps sessions. Raises RecordsUnavailable."""

    def create(self, session: NewSession) -> StoredSession | OverQuota | ExternalIdInUse | None:
        """Keep a session; of two with one name of the same owner that live only one can be.

        Returns None when it is kept, and has been counted; or else the one that has the name, or why not.
        """
        ...

    def get(self, owner: str, session_id: str) -> StoredSession | None:
        """Return the session of that owner, or None: unknown, forgotten and another's look the same."""
        ...

    def find(self, session_id: str) -> StoredSession | None:
        """Return the session of any owner, or None."""
        ...

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        wanted: SessionFilter = ...,
    ) -> RecordPage[StoredSession]:
        """List the owner's sessions, the newest first unless asked otherwise. Raises UnknownCursor."""
        ...

    def live(self) -> tuple[StoredSession, ...]:
        """Return the sessions that this instance has created, or adopted, and that have not ended."""
        ...

    def adopt(self) -> int:
        """Make this instance the one that has created the live sessions of instances whose lease has expired.

        Returns their number. Of several instances that do so at a time each session goes to one.
        """
        ...

    def change(self, session_id: str, document: bytes, metadata: Mapping[str, str] | None) -> bool:
        """Replace what was asked for; metadata unless it is None. Returns False if it has ended or is unknown."""
        ...

    def count(self, uses: tuple[SessionUse, ...], at_ms: int) -> None:
        """Add what sessions have used since they were counted last to the usage of their keys."""
        ...

    def end(self, session_id: str, ended_at_ms: int, facts: bytes, used: SessionUsed | None = None) -> bool:
        """Record an end, and what was used until then; None where nobody knows.

        Returns False, and changes nothing, if it has ended or is unknown.
        """
        ...

    def discard(self, session_id: str) -> None:
        """Forget a session that was not created after all, and that it was counted."""
        ...

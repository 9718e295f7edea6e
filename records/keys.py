"""Stored keys: what is kept of one (never the key itself), and the trail of what was done to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from records.page import Order, RecordPage


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is being made. `digest` is the SHA-256 of the whole key; `prefix` its first characters."""

    id: str
    digest: bytes
    prefix: str
    plan: str
    created_at_ms: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept."""

    id: str
    prefix: str
    plan: str
    label: str
    disabled: bool
    created_at_ms: int
    revoked_at_ms: int | None
    #: Until when the key before the last rotation is still good; None if there is none.
    previous_until_ms: int | None


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor of a change to a key, and its time: a key's id, `admin`, `operator`, an address."""

    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done. `detail` is a JSON object. `id` is a number that only grows, as text."""

    id: str
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: bytes


class KeyStore(Protocol):
    """Keeps keys. Each change and its audit entry are one transaction, effective at once in every process.

    Raises RecordsUnavailable.
    """

    def create(self, key: NewKey, actor: Actor) -> StoredKey:
        """Keep a new key."""
        ...

    def create_many(self, keys: Sequence[NewKey], actor: Actor) -> None:
        """Keep new keys, all or none of them."""
        ...

    def labels(self, key_ids: Collection[str]) -> dict[str, str]:
        """Return the labels of these keys by id. Unknown ids are omitted."""
        ...

    def find(self, digest: bytes) -> StoredKey | None:
        """Find the key with this digest, or with this previous digest in its grace period, unless it is revoked.

        Called for each request of a stored key, so that a change is effective at once in every process.
        """
        ...

    def get(self, key_id: str) -> StoredKey | None:
        """Return the key with this id, revoked or not."""
        ...

    def list(self, *, limit: int, after: str | None = None, order: Order = "desc") -> RecordPage[StoredKey]:
        """Return a page of all keys, by default the newest first. Raises UnknownCursor."""
        ...

    def update(
        self, key_id: str, actor: Actor, *, plan: str | None = None, disabled: bool | None = None
    ) -> StoredKey | None:
        """Change what is given. None if there is no such key, or it is revoked."""
        ...

    def rotate(
        self,
        key_id: str,
        actor: Actor,
        *,
        digest: bytes,
        prefix: str,
        previous_until_ms: int,
        current: bytes | None = None,
    ) -> StoredKey | None:
        """Give it a new digest; the one it had is good until then, and the one before that no longer.

        None if there is no such key, it is revoked, or `current` is given and is not its digest any more.
        """
        ...

    def revoke(self, key_id: str, actor: Actor) -> bool:
        """End it for good, with its previous digest. False if there is no such key, or it is revoked."""
        ...

    def audit(self, *, limit: int, after: str | None = None, subject: str | None = None) -> RecordPage[AuditEntry]:
        """Return a page of the audit log, the newest entry first. Raises UnknownCursor."""
        ...

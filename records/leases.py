"""Leases: which instance of the service uses the database, so that no other ends its live runs.

An *instance* is one STATE_DIR: its id is kept there, and every run names the instance that accepted it. Its lease
is alive while its heartbeat is younger than the setting LEASE_S, by the database's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

#: The default time after the last heartbeat at which a lease expires.
LEASE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Instance:
    """The holder of a lease: the instance's id, and the name and the boot of its machine."""

    id: str
    host: str
    boot: str


@dataclass(frozen=True, slots=True)
class Holder:
    """Another instance whose lease is alive, when it last gave a heartbeat, and how long ago that was."""

    id: str
    host: str
    heartbeat_ms: int
    age_ms: int


class LeaseStore(Protocol):
    """Keeps leases. Each call is one transaction. Raises RecordsUnavailable."""

    #: The validity of a lease after its last heartbeat, in milliseconds.
    lease_ms: int

    def acquire(self, instance: Instance) -> Holder | None:
        """Take the lease, unless another instance's is alive, which is returned then.

        The same instance on the same machine (its name or its boot) takes over its own lease at once.
        """
        ...

    def beat(self, instance: Instance) -> bool:
        """Send a heartbeat. Returns False if the lease expired and another instance has taken its place."""
        ...

    def release(self, instance: Instance) -> None:
        """End the lease; another instance may take its place at once."""
        ...

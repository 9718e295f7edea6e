"""Leases: which instance of the service uses the database, so that no other takes its runs for a dead one's.

An *instance* is one STATE_DIR: its id is kept there, and every run names the instance that accepted it. Its lease
is alive while its heartbeat is younger than the setting LEASE_S, by the database's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

#: Where nothing else is set: after so long without a heartbeat an instance is dead.
LEASE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Instance:
    """Who asks for a lease: the instance's id, and the name and the boot of the machine it runs on."""

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

    #: How long a lease is alive after its last heartbeat, in milliseconds.
    lease_ms: int

    def acquire(self, instance: Instance) -> Holder | None:
        """Take the lease, unless another instance's is alive, which is returned then.

        The same instance on the same machine (its name or its boot) takes over its own lease at once.
        """
        ...

    def beat(self, instance: Instance) -> bool:
        """Give a heartbeat. False if the lease was lost: it was dead, and another instance has taken its place."""
        ...

    def release(self, instance: Instance) -> None:
        """End the lease; another instance may take its place at once."""
        ...

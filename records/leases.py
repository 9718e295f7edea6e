"""Leases: which instances of the service use the database, so that none ends the live runs of another.

An *instance* is one STATE_DIR: its id is kept there, and every run names the instance that accepted it. Its lease
is alive while its heartbeat is younger than the setting LEASE_S, by the database's own clock.

Several instances share a database if they reach the same workers, by the same queue at a broker, and can verify
each other's links. One that reaches the worker of its own machine alone does not know the runs of any other: it is
the only one.
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
    #: The queue at the broker by which it shares workers; None if it shares nothing.
    queue: str | None = None
    #: Digests of the keys that sign links, the newest first.
    signing: tuple[str, ...] = ()
    #: The name of this start: of two that run on one STATE_DIR, or on copies of it, the later one has the lease.
    start: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Another instance whose lease is alive, or another start of this one: when it last gave a heartbeat, and how
    long ago that was.
    """

    id: str
    host: str
    heartbeat_ms: int
    age_ms: int
    queue: str | None = None
    signing: tuple[str, ...] = ()


def may_share(instance: Instance, other: Holder) -> bool:
    """Return whether both may use the database at a time."""
    return (
        instance.id != other.id
        and instance.queue is not None
        and instance.queue == other.queue
        and verify_each_other(instance.signing, other.signing)
    )


def verify_each_other(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether each knows the newest key of the other: with that one the other signs its links."""
    return one[:1] == other[:1] or (bool(one and other) and one[0] in other and other[0] in one)


class LeaseStore(Protocol):
    """Keeps leases. Each call is one transaction. Raises RecordsUnavailable."""

    #: The validity of a lease after its last heartbeat, in milliseconds.
    lease_ms: int

    def acquire(self, instance: Instance, *, again: bool = False) -> Holder | None:
        """Take the lease, unless one is alive of an instance that this one may not share the database with.

        That one is returned then. The same instance on the same machine (its name or its boot) takes over its own
        lease at once; `again`, for a start that had it before, only where no later start has it.
        """
        ...

    def beat(self, instance: Instance) -> bool:
        """Send a heartbeat. Returns False if another instance, or a later start of this one, has its place."""
        ...

    def release(self, instance: Instance) -> None:
        """End the lease; another instance may take its place at once."""
        ...

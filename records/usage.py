"""The usage by key, day and language, and the quotas of runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class RunUsage:
    """The usage of one run. Memory is its limit times its wall clock, in mebibyte-milliseconds: an integer adds
    up exactly (`gb_seconds` = memory_mb_ms / 1024 / 1000).
    """

    cpu_ms: int = 0
    wall_ms: int = 0
    memory_mb_ms: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    egress_bytes: int = 0


class SessionUsed(NamedTuple):
    """The usage of a session since its creation: the milliseconds in which its processes could run, those of CPU,
    the memory that it was charged for by its time, in mebibyte-milliseconds, and bytes to and from other machines.
    """

    awake_ms: int = 0
    cpu_ms: int = 0
    memory_mb_ms: int = 0
    egress_bytes: int = 0


NOTHING_USED = RunUsage()


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The total usage of one key's runs of one language that ended on one day (UTC)."""

    day: date
    language: str
    runs: int
    cpu_ms: int
    wall_ms: int
    memory_mb_ms: int
    bytes_in: int
    bytes_out: int
    #: Sessions that were created, and what sessions used: the time in which their processes could run.
    sessions: int
    session_ms: int
    session_cpu_ms: int
    session_memory_mb_ms: int
    #: Sent to other machines and received from them, by runs and sessions.
    egress_bytes: int


@dataclass(frozen=True, slots=True)
class Quota:
    """The number of runs that a key may have in a period. The caller names the period: `all`, `2026-11`."""

    period: str
    limit: int


UsageGroup = Literal["key", "plan", "language", "day"]


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """The usage of all keys that is asked for: from `first` to `last`, both included, and of whom; None is any."""

    first: date
    last: date
    by: tuple[UsageGroup, ...]
    owner: str | None = None
    plan: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """The total usage of the runs of one group. A field is None if it is not part of the grouping."""

    owner: str | None
    #: The plan that the key has now; None for a static key too.
    plan: str | None
    language: str | None
    day: date | None
    runs: int
    cpu_ms: int
    wall_ms: int
    memory_mb_ms: int
    bytes_in: int
    bytes_out: int
    sessions: int
    session_ms: int
    session_cpu_ms: int
    session_memory_mb_ms: int
    egress_bytes: int


class UsageStore(Protocol):
    """Reads what finished runs have written (`RunStore.finish`). Kept for ever: a row a key, day and language."""

    def report(self, asked: UsageQuery, *, limit: int) -> tuple[UsageTotal, ...]:
        """Sum the usage of all keys by group, in the order of the groups, at most `limit` groups."""
        ...

    def usage(self, owner: str, first: date, last: date) -> tuple[UsageRow, ...]:
        """Return the usage rows from day `first` to day `last`, both included, by day and language."""
        ...

    def session_usage(self, owner: str, first: date | None) -> tuple[int, int]:
        """Return the milliseconds of sessions, and of their CPU, from day `first` on; None means all."""
        ...

    def counted(self, owner: str, period: str) -> int:
        """Count the runs that `RunStore.accept` accepted in this period, including live ones."""
        ...

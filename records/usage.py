"""What was used, by key, day and language; and how many runs a key has had of those it may have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class RunUsage:
    """What one run used. Memory is its limit times its wall clock, in mebibyte-milliseconds: an integer adds
    up exactly (`gb_seconds` = memory_mb_ms / 1024 / 1000).
    """

    cpu_ms: int = 0
    wall_ms: int = 0
    memory_mb_ms: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


NOTHING_USED = RunUsage()


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one key's runs of one language that ended on one day (UTC) used together."""

    day: date
    language: str
    runs: int
    cpu_ms: int
    wall_ms: int
    memory_mb_ms: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Quota:
    """How many runs a key may have in a period. The period is the caller's word for it: `all`, `2026-11`."""

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
    """What the runs of one group used together. A field is None where it is not grouped by."""

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


class UsageStore(Protocol):
    """Reads what finished runs have written (`RunStore.finish`). Kept for ever: a row a key, day and language."""

    def report(self, asked: UsageQuery, *, limit: int) -> tuple[UsageTotal, ...]:
        """The usage of all keys by group, in the order of the groups; at most `limit` of them."""
        ...

    def usage(self, owner: str, first: date, last: date) -> tuple[UsageRow, ...]:
        """The rows of the days from `first` to `last`, both included, by day and language."""
        ...

    def counted(self, owner: str, period: str) -> int:
        """The runs that `RunStore.accept` has counted in that period, those that still run included."""
        ...

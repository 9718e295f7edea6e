"""Define the operations of a sandbox's control group, for both kernel versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sandbox.engines import Stats

if TYPE_CHECKING:
    from sandbox.engines.cgroups.freezer import Freezer

CPU_PERIOD_US = 100_000
#: Memory for socket buffers as a part of a sandbox's memory, where they are counted separately (v1).
SOCKET_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a group. `pids` includes the agent."""

    memory_bytes: int
    cpus: float
    pids: int


class Group(Protocol):
    """One sandbox's control group."""

    def enter(self, pid: int) -> None:
        """Move a process in."""
        ...

    def set(self, bounds: Bounds, *, reclaim: bool = False) -> bool:
        """Apply bounds. Returns False if more memory is already in use than they allow.

        With `reclaim` the kernel is first let take back what is only cached.
        """
        ...

    def start_counting(self) -> None:
        """Start counting usage, because a program is about to run, and lower the group's priority."""
        ...

    def stats(self) -> Stats: ...

    def refused_pids(self) -> int:
        """Return how often a process or thread was refused because of `pids`. Raises OSError if not counted."""
        ...

    def used_bytes(self) -> int:
        """Return the memory in use."""
        ...

    def pids(self) -> list[int]: ...

    def freezer(self) -> Freezer | None:
        """Return what freezes its processes, made ready while no program runs; None where nothing can."""
        ...

    def remove(self) -> None:
        """Remove the group, whose processes have exited."""
        ...


class Cgroups(Protocol):
    """The place where this service keeps its groups."""

    def create(self, name: str, *, limited_reads: bool = True) -> Group:
        """Make a group; `limited_reads` holds it to what a sandbox may read from the disk, if that is limited."""
        ...

    def leftovers(self) -> list[Group]: ...

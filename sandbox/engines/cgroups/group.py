"""Define the operations of a sandbox's control group, for both kernel versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sandbox.engines import Stats

CPU_PERIOD_US = 100_000
#: The part of a sandbox's memory that buffers of its sockets may take beside it, where they are no part of it (v1).
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
        """Put bounds in force; False if more memory is already in use than they allow.

        With `reclaim` the kernel is first let take back what is only cached.
        """
        ...

    def start_counting(self) -> None:
        """Start counting usage, because a program is about to run, and lower the group's priority."""
        ...

    def stats(self) -> Stats: ...

    def used_bytes(self) -> int:
        """Return the memory in use."""
        ...

    def pids(self) -> list[int]: ...

    def remove(self) -> None:
        """Remove the group; its processes are dead."""
        ...


class Cgroups(Protocol):
    """The place where this service keeps its groups."""

    def create(self, name: str, *, limited_reads: bool = True) -> Group:
        """Make a group; `limited_reads` holds it to what a sandbox may read from the disk, if that is limited."""
        ...

    def leftovers(self) -> list[Group]: ...

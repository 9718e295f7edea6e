"""A control group that this process may read and not write, as in a container that is only to measure.

Limits then go through the daemon. Two things are less exact than where the group can be written: the peak of
memory cannot be set to zero before the program begins, so it counts the sandbox's own start; and a program's share
of busy processors is not lowered.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sandbox.engines import Stats
from sandbox.engines.cgroups.freezer import Freezer
from sandbox.engines.cgroups.group import Bounds, Group
from sandbox.engines.cgroups.v1 import GroupV1
from sandbox.engines.cgroups.v2 import GroupV2


class ReadOnlyCgroup:
    """Implements `Group` over one that cannot be written; `update` makes the daemon apply bounds."""

    def __init__(self, group: Group, bounds: Bounds, update: Callable[[Bounds], None]) -> None:
        self._group = group
        self._bounds = bounds
        self._update = update
        self._base = Stats(0, 0, 0)

    def enter(self, pid: int) -> None:
        """Raise OSError: the daemon places processes."""
        self._group.enter(pid)

    def set(self, bounds: Bounds, *, reclaim: bool = False) -> bool:
        if bounds == self._bounds:
            return True
        lowering = bounds.memory_bytes < self._bounds.memory_bytes
        if lowering and not reclaim and self._group.used_bytes() > bounds.memory_bytes:
            return False
        self._update(bounds)
        self._bounds = bounds
        return True

    def start_counting(self) -> None:
        self._base = self._group.stats()

    def stats(self) -> Stats:
        now = self._group.stats()
        return Stats(now.cpu_ns - self._base.cpu_ns, now.memory_peak_bytes, now.oom_kills - self._base.oom_kills)

    def refused_pids(self) -> int:
        return self._group.refused_pids()

    def used_bytes(self) -> int:
        return self._group.used_bytes()

    def pids(self) -> list[int]:
        return self._group.pids()

    def freezer(self) -> Freezer | None:
        """Return None: the daemon freezes."""
        return None

    def remove(self) -> None:
        """Do nothing: the daemon removes the group."""


def is_writable(group: GroupV1 | GroupV2) -> bool:
    """Return whether limits can be written to the group; on a read-only mount not even root can."""
    return os.access(group.limits_file, os.W_OK)

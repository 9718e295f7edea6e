"""Control groups of version 2: one directory for all controllers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sandbox.engines import EngineUnusable, Stats
from sandbox.engines.cgroups import files
from sandbox.engines.cgroups.freezer import Freezer, GroupFreezer
from sandbox.engines.cgroups.group import CPU_PERIOD_US, Bounds, Group
from sandbox.engines.cgroups.lingering import Lingering
from sandbox.engines.cgroups.reads import ReadLimit, say_unlimited

#: A program's share of busy processors, against 100 of a sandbox that is still being made; see version 1.
RUN_WEIGHT = 12


class CgroupsV2:
    """One unified hierarchy; controllers are handed down from the root to this service's group."""

    def __init__(self, mount: Path, instance: str, reads: ReadLimit | None = None) -> None:
        available = files.read(f"{mount}/cgroup.controllers").split()
        missing = [name for name in ("memory", "cpu", "pids") if name not in available]
        if missing:
            raise EngineUnusable(f"cgroup v2 offers no controller {', '.join(missing)}")
        self._parent = f"{mount}/{instance}"
        os.makedirs(self._parent, exist_ok=True)
        for directory in (str(mount), self._parent):
            files.write(f"{directory}/cgroup.subtree_control", "+memory +cpu +pids")
        self._lingering = Lingering(self._count_lingering)
        self._reads = self._can_limit(mount, available, reads)

    def _can_limit(self, mount: Path, available: list[str], reads: ReadLimit | None) -> ReadLimit | None:
        """Return the limit if this machine accepts it; the controller is delegated only for it."""
        if reads is None:
            return None
        if "io" not in available:
            say_unlimited("cgroup v2 offers no controller io")
            return None
        try:
            for directory in (str(mount), self._parent):
                files.write(f"{directory}/cgroup.subtree_control", "+io")
            # No limit: whether the kernel takes it.
            files.write(f"{self._parent}/io.max", f"{reads.device} rbps=max riops=max")
        except OSError as e:
            say_unlimited(f"the controller io does not take {reads.node}: {e.strerror}")
            return None
        return reads

    def create(self, name: str, *, limited_reads: bool = True) -> Group:
        os.mkdir(f"{self._parent}/{name}")
        if self._reads is not None and limited_reads:
            limit = f"{self._reads.device} rbps={self._reads.bytes_per_s} riops={self._reads.reads_per_s}"
            files.write(f"{self._parent}/{name}/io.max", limit)
        return GroupV2(f"{self._parent}/{name}", lingering=self._lingering)

    def _count_lingering(self) -> int:
        with contextlib.suppress(FileNotFoundError):  # before Linux 4.14
            return files.keyed(files.read(f"{self._parent}/cgroup.stat"), "nr_dying_descendants")
        return 0

    def leftovers(self) -> list[Group]:
        return [GroupV2(entry.path) for entry in os.scandir(self._parent) if entry.is_dir()]


class GroupV2:
    """A sandbox's directory in the unified hierarchy."""

    def __init__(self, path: str, *, bounds: Bounds | None = None, lingering: Lingering | None = None) -> None:
        """`bounds` are already applied."""
        self._lingering = lingering
        self._path = path
        self._bounds = bounds
        self._cpu_base_us = 0
        self._oom_base = 0

    def enter(self, pid: int) -> None:
        files.write(f"{self._path}/cgroup.procs", pid)

    def set(self, bounds: Bounds, *, reclaim: bool = False) -> bool:
        old = self._bounds
        if old is None:
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap has no such file
                files.write(f"{self._path}/memory.swap.max", 0)
        if old is None or old.memory_bytes != bounds.memory_bytes:
            if old and not self._is_below(bounds.memory_bytes, reclaim=reclaim):
                return False
            files.write(f"{self._path}/memory.max", bounds.memory_bytes)
        if old is None or old.pids != bounds.pids:
            files.write(f"{self._path}/pids.max", bounds.pids)
        if old is None or old.cpus != bounds.cpus:
            files.write(f"{self._path}/cpu.max", f"{int(CPU_PERIOD_US * bounds.cpus)} {CPU_PERIOD_US}")
        self._bounds = bounds
        return True

    def _is_below(self, size: int, *, reclaim: bool) -> bool:
        used = self.used_bytes()
        if used > size and reclaim:
            # Not by memory.max, which kills what it cannot reclaim. EAGAIN: less was reclaimed than asked for.
            with contextlib.suppress(OSError):
                files.write(f"{self._path}/memory.reclaim", used - size)
            used = self.used_bytes()
        return used <= size

    def used_bytes(self) -> int:
        return int(files.read(f"{self._path}/memory.current"))

    @property
    def limits_file(self) -> str:
        """Return a file that is written to change the group's bounds."""
        return f"{self._path}/memory.max"

    def start_counting(self) -> None:
        files.write(f"{self._path}/cpu.weight", RUN_WEIGHT)
        # memory.peak can be reset per descriptor only (Linux 6.12); so the peak here is that of the sandbox.
        self._cpu_base_us = files.keyed(files.read(f"{self._path}/cpu.stat"), "usage_usec")
        self._oom_base = files.keyed(files.read(f"{self._path}/memory.events"), "oom_kill")

    def stats(self) -> Stats:
        peak = f"{self._path}/memory.peak"
        if not os.path.exists(peak):  # before Linux 5.19
            peak = f"{self._path}/memory.current"
        return Stats(
            cpu_ns=(files.keyed(files.read(f"{self._path}/cpu.stat"), "usage_usec") - self._cpu_base_us) * 1000,
            memory_peak_bytes=int(files.read(peak)),
            oom_kills=files.keyed(files.read(f"{self._path}/memory.events"), "oom_kill") - self._oom_base,
        )

    def refused_pids(self) -> int:
        return files.keyed(files.read(f"{self._path}/pids.events"), "max")

    def pids(self) -> list[int]:
        return files.pids_in(self._path)

    def freezer(self) -> Freezer | None:
        freezer = GroupFreezer(self._path)
        return freezer if freezer.is_usable else None

    def remove(self) -> None:
        if self._lingering is not None and self._lingering.empties_next():
            # EAGAIN: less was there to be taken back; before Linux 5.19 there is no such file.
            with contextlib.suppress(OSError):
                files.write(f"{self._path}/memory.reclaim", self.used_bytes())
        files.remove_directory(self._path)

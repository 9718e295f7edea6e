"""Control groups of version 1, also where a machine has both: a directory for each controller."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

from sandbox.engines import Stats
from sandbox.engines.cgroups import files
from sandbox.engines.cgroups.freezer import Freezer, GroupFreezer, gather
from sandbox.engines.cgroups.group import CPU_PERIOD_US, SOCKET_SHARE, Bounds, Group
from sandbox.engines.cgroups.lingering import Lingering
from sandbox.engines.cgroups.reads import ReadLimit, say_unlimited

#: A program's share of busy processors, against 1024 of a sandbox that is still being made: twenty programs that
#: use all they can must not starve the making of the twenty-first's sandbox.
RUN_SHARES = 128
#: Buffers of sockets: counted apart from the memory, and only after this file has been written.
SOCKETS = "memory.kmem.tcp.limit_in_bytes"
#: More than any machine has: a group that is only to be counted.
UNBOUNDED = 2**62
#: Seconds for which the number of the groups of others is taken as known: counting them takes milliseconds.
OTHERS_S = 10.0


class CgroupsV1:
    """One directory per controller hierarchy."""

    def __init__(
        self,
        mounts: dict[str, Path],
        instance: str,
        blkio: Path | None = None,
        reads: ReadLimit | None = None,
        unified: Path | None = None,
    ) -> None:
        """`blkio` is where the controller that limits `reads` is mounted, `unified` where version 2 is."""
        self._unified = None if unified is None else f"{unified}/{instance}"
        self._parents = {name: str(point / instance) for name, point in mounts.items()}
        for parent in set(self._parents.values()):
            os.makedirs(parent, exist_ok=True)
        self._root = str(mounts["memory"])
        self._memsw = os.path.exists(f"{self._parents['memory']}/memory.memsw.limit_in_bytes")
        with contextlib.suppress(OSError):
            # The kernel changes its own code when the first group is bounded and when the last of them goes: this
            # one stays.
            files.write(f"{self._parents['memory']}/{SOCKETS}", UNBOUNDED)
        self._others, self._others_until = 0, 0.0
        self._lingering = Lingering(self._count_lingering)
        self._reads = self._can_limit(blkio, instance, reads)

    def _can_limit(self, blkio: Path | None, instance: str, reads: ReadLimit | None) -> ReadLimit | None:
        """Return the limit if this machine accepts it; then each group has a directory for it."""
        if reads is None:
            return None
        if blkio is None:
            say_unlimited("the controller blkio is not mounted")
            return None
        parent = f"{blkio}/{instance}"
        try:
            os.makedirs(parent, exist_ok=True)
            limit_reads(parent, reads.device, 0, 0)  # no limit: whether the kernel takes it
        except OSError as e:
            say_unlimited(f"the controller blkio does not take {reads.node}: {e.strerror}")
            return None
        self._parents["blkio"] = parent
        return reads

    def create(self, name: str, *, limited_reads: bool = True) -> Group:
        paths = {controller: f"{parent}/{name}" for controller, parent in self._parents.items()}
        for path in set(paths.values()):
            os.mkdir(path)
        if self._reads is not None and limited_reads:
            limit_reads(paths["blkio"], self._reads.device, self._reads.bytes_per_s, self._reads.reads_per_s)
        unified = None if self._unified is None else f"{self._unified}/{name}"
        return GroupV1(paths, memsw=self._memsw, lingering=self._lingering, unified=unified)

    def _count_lingering(self) -> int:
        """Count the groups that the kernel still has under the memory controller without a directory.

        The directories of others change seldom and are many: they are counted again after a while only.
        """
        for line in files.read("/proc/cgroups").splitlines():
            name, _, count, _ = line.split()
            if name == "memory":
                own = directories_beneath(self._parents["memory"])
                if (moment := time.monotonic()) >= self._others_until:
                    self._others_until = moment + OTHERS_S
                    self._others = 1 + directories_beneath(self._root) - own
                return int(count) - own - self._others
        return 0

    def leftovers(self) -> list[Group]:
        names = {entry.name for parent in self._parents.values() for entry in os.scandir(parent) if entry.is_dir()}
        return [
            GroupV1({c: f"{parent}/{name}" for c, parent in self._parents.items()}, memsw=self._memsw)
            for name in sorted(names)
        ]


def directories_beneath(directory: str) -> int:
    """Count the directories beneath one, by the links that each has from its children; leaves are not read."""
    count = os.stat(directory).st_nlink - 2
    if count == 0:
        return 0
    with os.scandir(directory) as entries:
        for entry in entries:
            # One that has been removed meanwhile has nothing beneath it.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    count += directories_beneath(entry.path)
    return count


def limit_reads(path: str, device: str, bytes_per_s: int, reads_per_s: int) -> None:
    """Hold a group to so much from a disk; 0 is no limit."""
    files.write(f"{path}/blkio.throttle.read_bps_device", f"{device} {bytes_per_s}")
    files.write(f"{path}/blkio.throttle.read_iops_device", f"{device} {reads_per_s}")


class GroupV1:
    """A sandbox's directories, one for each controller (some may be the same)."""

    def __init__(
        self,
        paths: dict[str, str],
        *,
        memsw: bool,
        bounds: Bounds | None = None,
        lingering: Lingering | None = None,
        unified: str | None = None,
    ) -> None:
        """`bounds` are already applied; `unified` is the path of its processes in version 2."""
        self._lingering = lingering
        self._unified = unified
        self._placed_by_another = bounds is not None
        self._sockets_bytes: int | None = None
        self._paths = paths
        self._memsw = memsw
        self._bounds = bounds
        self._cpu_base_ns = 0
        self._oom_base = 0

    def enter(self, pid: int) -> None:
        for path in set(self._paths.values()):
            files.write(f"{path}/cgroup.procs", pid)

    def set(self, bounds: Bounds, *, reclaim: bool = False) -> bool:
        old = self._bounds
        if (old is None or old.memory_bytes != bounds.memory_bytes) and not self._set_memory(
            bounds.memory_bytes, old.memory_bytes if old else None, reclaim=reclaim
        ):
            return False
        if not self._set_sockets(int(bounds.memory_bytes * SOCKET_SHARE)):
            return False
        if old is None or old.pids != bounds.pids:
            files.write(f"{self._paths['pids']}/pids.max", bounds.pids)
        if old is None or old.cpus != bounds.cpus:
            if old is None:
                files.write(f"{self._paths['cpu']}/cpu.cfs_period_us", CPU_PERIOD_US)
            files.write(f"{self._paths['cpu']}/cpu.cfs_quota_us", int(CPU_PERIOD_US * bounds.cpus))
        self._bounds = bounds
        return True

    def _set_memory(self, size: int, old: int | None, *, reclaim: bool) -> bool:
        """Set the memory limit. Memory ≤ memory+swap must always hold: raise the sum first, lower it last."""
        memory = f"{self._paths['memory']}/memory.limit_in_bytes"
        both = f"{self._paths['memory']}/memory.memsw.limit_in_bytes"
        raising = old is not None and size > old
        lowering = old is not None and size < old
        # Asked to lower a limit below what is in use, the kernel reclaims, and answers EBUSY if that is not enough.
        if lowering and not reclaim and size < self.used_bytes():
            return False
        order = [both, memory] if raising else [memory, both]
        try:
            for path in order:
                if path == memory or self._memsw:
                    files.write(path, size)
        except OSError as e:
            if e.errno == errno.EBUSY:
                return False
            raise
        return True

    def _set_sockets(self, size: int) -> bool:
        """Bound the buffers of sockets of every kind; False if more is in use. Not every kernel can."""
        if size == self._sockets_bytes:
            return True
        try:
            files.write(f"{self._paths['memory']}/{SOCKETS}", size)
        except FileNotFoundError:
            pass
        except OSError as e:
            if e.errno == errno.EBUSY:
                return False
            raise
        self._sockets_bytes = size
        return True

    def used_bytes(self) -> int:
        return int(files.read(self._memory("usage_in_bytes")))

    @property
    def limits_file(self) -> str:
        """Return a file that is written to change the group's bounds."""
        return self._memory("limit_in_bytes")

    def _memory(self, name: str) -> str:
        return f"{self._paths['memory']}/memory.{name}"

    def start_counting(self) -> None:
        files.write(f"{self._paths['cpu']}/cpu.shares", RUN_SHARES)
        files.write(self._memory("max_usage_in_bytes"), 0)
        self._cpu_base_ns = int(files.read(f"{self._paths['cpuacct']}/cpuacct.usage"))
        self._oom_base = self._oom_kills()

    def _oom_kills(self) -> int:
        return files.keyed(files.read(self._memory("oom_control")), "oom_kill")

    def stats(self) -> Stats:
        return Stats(
            cpu_ns=int(files.read(f"{self._paths['cpuacct']}/cpuacct.usage")) - self._cpu_base_ns,
            memory_peak_bytes=int(files.read(self._memory("max_usage_in_bytes"))),
            oom_kills=self._oom_kills() - self._oom_base,
        )

    def refused_pids(self) -> int:
        return files.keyed(files.read(f"{self._paths['pids']}/pids.events"), "max")

    def pids(self) -> list[int]:
        return files.pids_in(self._paths["pids"])

    def freezer(self) -> Freezer | None:
        if self._unified is None:
            return None
        if not self._placed_by_another:
            return gather(self._unified, self.pids)
        placed = GroupFreezer(self._unified)
        return placed if placed.is_usable and files.pids_in(self._unified) == self.pids() else None

    def remove(self) -> None:
        if self._lingering is not None and self._lingering.empties_next():
            with contextlib.suppress(OSError):  # what cannot be taken back stays
                files.write(self._memory("force_empty"), 0)
        for path in set(self._paths.values()):
            files.remove_directory(path)

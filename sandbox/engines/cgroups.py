"""Control groups, written directly: one group per sandbox, on cgroup v1 (also hybrid) and v2.

File names and meanings: the kernel's Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandbox.engines import EngineError, EngineUnusable, Stats

MIB = 1024 * 1024
CPU_PERIOD_US = 100_000
READ_BYTES = 64 * 1024
#: A program's share of busy processors, against 1024 (v1) or 100 (v2) of a sandbox that is still being made:
#: twenty programs that use all they can must not starve the making of the twenty-first's sandbox.
RUN_SHARES_V1, RUN_WEIGHT_V2 = 128, 12
NEEDED = ("memory", "cpu", "cpuacct", "pids")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a group holds a sandbox to. `pids` counts the agent too."""

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
        """A program is about to run: count usage from here on, and let others go first."""
        ...

    def stats(self) -> Stats: ...

    def used_bytes(self) -> int:
        """The memory in use now."""
        ...

    def pids(self) -> list[int]: ...

    def remove(self) -> None:
        """Remove the group; its processes are dead."""
        ...


class Cgroups(Protocol):
    """The place where this service keeps its groups."""

    def create(self, name: str) -> Group: ...

    def leftovers(self) -> list[Group]: ...


def open_cgroups(instance: str, mounts: str | None = None) -> Cgroups:
    """Whichever version this machine has; `instance` names the parent group of this service."""
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    hierarchies, unified = parse_mounts(text)
    missing = [name for name in NEEDED if name not in hierarchies]
    if not missing:
        return CgroupsV1({name: hierarchies[name] for name in NEEDED}, instance)
    if unified is None:
        raise EngineUnusable(f"cgroup controllers are not mounted: {', '.join(missing)}")
    return CgroupsV2(unified, instance)


def group_of(
    pid: int, bounds: Bounds, mounts: str | None = None, membership: str | None = None
) -> GroupV1 | GroupV2:
    """The group that somebody else has put a process into, already held to `bounds`.

    Raises EngineError if it cannot be seen from here. The texts are those of /proc, for tests.
    """
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    hierarchies, unified = parse_mounts(text)
    member = Path(f"/proc/{pid}/cgroup").read_text() if membership is None else membership
    v1, v2 = parse_membership(member)
    if all(name in hierarchies for name in NEEDED):
        paths = {name: f"{hierarchies[name]}{v1.get(name, '/')}" for name in NEEDED}
        memsw = os.path.exists(f"{paths['memory']}/memory.memsw.limit_in_bytes")
        group: GroupV1 | GroupV2 = GroupV1(paths, memsw=memsw, bounds=bounds)
        shown = paths["pids"]
    elif unified is not None and v2 is not None:
        shown = f"{unified}{v2}"
        group = GroupV2(shown, bounds=bounds)
    else:
        raise EngineError("cgroup controllers are not mounted")
    if pid not in group.pids():
        raise EngineError(f"the control group of process {pid} is not to be seen at {shown}")
    return group


def parse_membership(text: str) -> tuple[dict[str, str], str | None]:
    """The v1 controllers with a process's path in each, and its v2 path: see cgroups(7), /proc/PID/cgroup."""
    v1: dict[str, str] = {}
    v2 = None
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        # From a cgroup namespace of its own, another's path begins with as many `..` as lead to the root.
        whole = re.sub(r"^(/\.\.)+(?=/)", "", path)
        if number == "0" and not controllers:
            v2 = whole
        else:
            v1.update(dict.fromkeys(controllers.split(","), whole))
    return v1, v2


def parse_mounts(text: str) -> tuple[dict[str, Path], Path | None]:
    """The v1 controllers with their mount points, and the v2 mount point if there is one."""
    hierarchies: dict[str, Path] = {}
    unified = None
    for line in text.splitlines():
        _, point, kind, options, *_ = line.split(" ")
        if kind == "cgroup":
            for option in options.split(","):
                hierarchies.setdefault(option, Path(point))
        elif kind == "cgroup2" and unified is None:
            unified = Path(point)
    return hierarchies, unified


def directories_named(path: str, mounts: str | None = None) -> list[str]:
    """The directories of a group's name in every hierarchy, also those of controllers that are not used here."""
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    points = dict.fromkeys(
        point for _, point, kind, *_ in (line.split(" ") for line in text.splitlines()) if kind.startswith("cgroup")
    )
    return [f"{point}/{path}" for point in points if os.path.isdir(f"{point}/{path}")]


def remove_empty(instance: str) -> None:
    """Remove the groups in which nobody is beneath a service's own, in every hierarchy."""
    for parent in directories_named(instance):
        for entry in os.scandir(parent):
            if entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.rmdir(entry.path)


def _write(path: str, value: int | str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _read(path: str) -> str:
    # Not `open`: its buffering and decoding cost more than the kernel's part, a dozen times a run.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, READ_BYTES).decode()
    finally:
        os.close(fd)


def _keyed(text: str, key: str) -> int:
    """The number after `key` in a flat-keyed file; 0 if it is not there."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _pids_in(path: str) -> list[int]:
    with contextlib.suppress(OSError):  # the group has gone
        return [int(pid) for pid in _read(f"{path}/cgroup.procs").split()]
    return []


def _remove_directory(path: str) -> None:
    """rmdir, again for a moment while the kernel still counts dead processes in the group."""
    for _ in range(200):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as e:
            if e.errno != errno.EBUSY:
                raise
            time.sleep(0.005)
        else:
            return
    raise EngineError("a control group stays busy")


class CgroupsV1:
    """One directory per controller hierarchy."""

    def __init__(self, mounts: dict[str, Path], instance: str) -> None:
        self._parents = {name: str(point / instance) for name, point in mounts.items()}
        for parent in set(self._parents.values()):
            os.makedirs(parent, exist_ok=True)
        self._memsw = os.path.exists(f"{self._parents['memory']}/memory.memsw.limit_in_bytes")

    def create(self, name: str) -> Group:
        paths = {controller: f"{parent}/{name}" for controller, parent in self._parents.items()}
        for path in set(paths.values()):
            os.mkdir(path)
        return GroupV1(paths, memsw=self._memsw)

    def leftovers(self) -> list[Group]:
        names = {entry.name for parent in self._parents.values() for entry in os.scandir(parent) if entry.is_dir()}
        return [
            GroupV1({c: f"{parent}/{name}" for c, parent in self._parents.items()}, memsw=self._memsw)
            for name in sorted(names)
        ]


class GroupV1:
    """A sandbox's directories, one for each controller (some may be the same)."""

    def __init__(self, paths: dict[str, str], *, memsw: bool, bounds: Bounds | None = None) -> None:
        """`bounds` are those already in force."""
        self._paths = paths
        self._memsw = memsw
        self._bounds = bounds
        self._cpu_base_ns = 0
        self._oom_base = 0

    def enter(self, pid: int) -> None:
        for path in set(self._paths.values()):
            _write(f"{path}/cgroup.procs", pid)

    def set(self, bounds: Bounds, *, reclaim: bool = False) -> bool:
        old = self._bounds
        if (old is None or old.memory_bytes != bounds.memory_bytes) and not self._set_memory(
            bounds.memory_bytes, old.memory_bytes if old else None, reclaim=reclaim
        ):
            return False
        if old is None or old.pids != bounds.pids:
            _write(f"{self._paths['pids']}/pids.max", bounds.pids)
        if old is None or old.cpus != bounds.cpus:
            if old is None:
                _write(f"{self._paths['cpu']}/cpu.cfs_period_us", CPU_PERIOD_US)
            _write(f"{self._paths['cpu']}/cpu.cfs_quota_us", int(CPU_PERIOD_US * bounds.cpus))
        self._bounds = bounds
        return True

    def _set_memory(self, size: int, old: int | None, *, reclaim: bool) -> bool:
        """Memory ≤ memory+swap must hold at every step: raise the sum first, lower it last."""
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
                    _write(path, size)
        except OSError as e:
            if e.errno == errno.EBUSY:
                return False
            raise
        return True

    def used_bytes(self) -> int:
        return int(_read(self._memory("usage_in_bytes")))

    @property
    def limits_file(self) -> str:
        """One that is written to change its bounds."""
        return self._memory("limit_in_bytes")

    def _memory(self, name: str) -> str:
        return f"{self._paths['memory']}/memory.{name}"

    def start_counting(self) -> None:
        _write(f"{self._paths['cpu']}/cpu.shares", RUN_SHARES_V1)
        _write(self._memory("max_usage_in_bytes"), 0)
        self._cpu_base_ns = int(_read(f"{self._paths['cpuacct']}/cpuacct.usage"))
        self._oom_base = self._oom_kills()

    def _oom_kills(self) -> int:
        return _keyed(_read(self._memory("oom_control")), "oom_kill")

    def stats(self) -> Stats:
        return Stats(
            cpu_ns=int(_read(f"{self._paths['cpuacct']}/cpuacct.usage")) - self._cpu_base_ns,
            memory_peak_bytes=int(_read(self._memory("max_usage_in_bytes"))),
            oom_kills=self._oom_kills() - self._oom_base,
        )

    def pids(self) -> list[int]:
        return _pids_in(self._paths["pids"])

    def remove(self) -> None:
        for path in set(self._paths.values()):
            _remove_directory(path)


class CgroupsV2:
    """One unified hierarchy; controllers are handed down from the root to this service's group."""

    def __init__(self, mount: Path, instance: str) -> None:
        available = _read(f"{mount}/cgroup.controllers").split()
        missing = [name for name in ("memory", "cpu", "pids") if name not in available]
        if missing:
            raise EngineUnusable(f"cgroup v2 offers no controller {', '.join(missing)}")
        self._parent = f"{mount}/{instance}"
        os.makedirs(self._parent, exist_ok=True)
        for directory in (str(mount), self._parent):
            _write(f"{directory}/cgroup.subtree_control", "+memory +cpu +pids")

    def create(self, name: str) -> Group:
        os.mkdir(f"{self._parent}/{name}")
        return GroupV2(f"{self._parent}/{name}")

    def leftovers(self) -> list[Group]:
        return [GroupV2(entry.path) for entry in os.scandir(self._parent) if entry.is_dir()]


class GroupV2:
    """A sandbox's directory in the unified hierarchy."""

    def __init__(self, path: str, *, bounds: Bounds | None = None) -> None:
        """`bounds` are those already in force."""
        self._path = path
        self._bounds = bounds
        self._cpu_base_us = 0
        self._oom_base = 0

    def enter(self, pid: int) -> None:
        _write(f"{self._path}/cgroup.procs", pid)

    def set(self, bounds: Bounds, *, reclaim: bool = False) -> bool:
        old = self._bounds
        if old is None:
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap has no such file
                _write(f"{self._path}/memory.swap.max", 0)
        if old is None or old.memory_bytes != bounds.memory_bytes:
            if old and not self._is_below(bounds.memory_bytes, reclaim=reclaim):
                return False
            _write(f"{self._path}/memory.max", bounds.memory_bytes)
        if old is None or old.pids != bounds.pids:
            _write(f"{self._path}/pids.max", bounds.pids)
        if old is None or old.cpus != bounds.cpus:
            _write(f"{self._path}/cpu.max", f"{int(CPU_PERIOD_US * bounds.cpus)} {CPU_PERIOD_US}")
        self._bounds = bounds
        return True

    def _is_below(self, size: int, *, reclaim: bool) -> bool:
        used = self.used_bytes()
        if used > size and reclaim:
            # Not by memory.max, which kills what it cannot reclaim. EAGAIN: less was reclaimed than asked for.
            with contextlib.suppress(OSError):
                _write(f"{self._path}/memory.reclaim", used - size)
            used = self.used_bytes()
        return used <= size

    def used_bytes(self) -> int:
        return int(_read(f"{self._path}/memory.current"))

    @property
    def limits_file(self) -> str:
        """One that is written to change its bounds."""
        return f"{self._path}/memory.max"

    def start_counting(self) -> None:
        _write(f"{self._path}/cpu.weight", RUN_WEIGHT_V2)
        # memory.peak can be reset per descriptor only (Linux 6.12); so the peak here is that of the sandbox.
        self._cpu_base_us = _keyed(_read(f"{self._path}/cpu.stat"), "usage_usec")
        self._oom_base = _keyed(_read(f"{self._path}/memory.events"), "oom_kill")

    def stats(self) -> Stats:
        peak = f"{self._path}/memory.peak"
        if not os.path.exists(peak):  # before Linux 5.19
            peak = f"{self._path}/memory.current"
        return Stats(
            cpu_ns=(_keyed(_read(f"{self._path}/cpu.stat"), "usage_usec") - self._cpu_base_us) * 1000,
            memory_peak_bytes=int(_read(peak)),
            oom_kills=_keyed(_read(f"{self._path}/memory.events"), "oom_kill") - self._oom_base,
        )

    def pids(self) -> list[int]:
        return _pids_in(self._path)

    def remove(self) -> None:
        _remove_directory(self._path)

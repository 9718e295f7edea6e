"""What the kernel says of processes, control groups and the machine. Nothing here touches what it looks at."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MS = 1_000_000
MIB = 1024 * 1024


def cpu_ns(pids: Iterable[int]) -> int:
    """CPU that these processes have used themselves, threads that have ended included; those gone count 0."""
    total = 0
    for pid in pids:
        # A process's own CPU clock, as clock_getcpuclockid(3) makes it: the inverted pid, and 2 for "scheduled".
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns((~pid << 3) | 2)
    return total


def busy_ns() -> int:
    """CPU that the whole machine has used: everything but idle, waiting for disks, and what was stolen."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return int((user + nice + system + irq + softirq) * TICK_S * 1e9)


def group_cpu_ns(group: Path) -> int:
    """CPU charged to a control group and all that have ever been beneath it (cpuacct, or cgroup v2)."""
    usage = group / "cpuacct.usage"
    if usage.exists():
        return int(usage.read_text())
    for line in (group / "cpu.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) * 1000
    raise RuntimeError(f"{group} counts no CPU")


def group_memory_bytes(group: Path) -> int:
    """Memory charged to a control group now, the kernel's own for it included."""
    for name in ("memory.usage_in_bytes", "memory.current"):
        if (group / name).exists():
            return int((group / name).read_text())
    raise RuntimeError(f"{group} counts no memory")


def group_pids(group: Path) -> list[int]:
    """The processes in a group, by the host's numbers; none if it has gone."""
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    return []


def memory_of(pid: int) -> tuple[int, int]:
    """A process's share of anonymous memory and of all it maps, in bytes (the kernel's Pss_Anon and Pss).

    Summed over a sandbox's processes, pages that they share with each other only are counted once.
    """
    found = {"Pss_Anon": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * 1024
    return found["Pss_Anon"], found["Pss"]

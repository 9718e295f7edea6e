"""The effective bounds of a process's control group, read from the kernel's files."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from sandbox.engines.cgroups.mounts import parse_membership, parse_mounts

#: cgroup v1 represents "no bound" by the largest multiple of a page in 63 bits.
UNBOUNDED_V1 = 2**60


@dataclass(frozen=True, slots=True)
class InForce:
    """None is no bound."""

    memory_bytes: int | None
    swapless: bool
    cpus: float | None
    pids: int | None


def bounds_in_force(pid: int) -> InForce:
    """Read the bounds of the group that a process is in. Raises OSError where it cannot be seen from here."""
    v1_points, v2_point = parse_mounts(Path("/proc/self/mounts").read_text())
    v1, v2 = parse_membership(Path(f"/proc/{pid}/cgroup").read_text())
    if "memory" in v1_points:
        return _v1({name: Path(f"{point}{v1.get(name, '/')}") for name, point in v1_points.items()})
    if v2_point is None or v2 is None:
        raise FileNotFoundError("control groups are not mounted")
    return _v2(Path(f"{v2_point}{v2}"))


def _v1(groups: dict[str, Path]) -> InForce:
    memory = _bound(groups["memory"] / "memory.limit_in_bytes", UNBOUNDED_V1)
    both = groups["memory"] / "memory.memsw.limit_in_bytes"
    quota = int((groups["cpu"] / "cpu.cfs_quota_us").read_text())
    period = int((groups["cpu"] / "cpu.cfs_period_us").read_text())
    return InForce(
        memory_bytes=memory,
        swapless=_bound(both, UNBOUNDED_V1) == memory if both.exists() else _no_swap(),
        cpus=quota / period if quota > 0 else None,
        pids=_bound(groups["pids"] / "pids.max"),
    )


def _v2(group: Path) -> InForce:
    quota, period = (group / "cpu.max").read_text().split()
    swap = group / "memory.swap.max"
    return InForce(
        memory_bytes=_bound(group / "memory.max"),
        swapless=_bound(swap) == 0 if swap.exists() else _no_swap(),
        cpus=None if quota == "max" else int(quota) / int(period),
        pids=_bound(group / "pids.max"),
    )


def _bound(path: Path, unbounded: int = 2**63) -> int | None:
    text = path.read_text().strip()
    return None if text == "max" or int(text) >= unbounded else int(text)


def _no_swap() -> bool:
    """Return whether this machine has no swap, so that a kernel need not count it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("SwapTotal:")).split()[1] == "0"
    return False

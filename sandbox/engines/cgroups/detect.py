"""Which version of control groups this machine has, and a service's place or a process's group in it."""

from __future__ import annotations

import os
from pathlib import Path

from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.cgroups.group import Bounds, Cgroups
from sandbox.engines.cgroups.mounts import parse_membership, parse_mounts, read_mounts
from sandbox.engines.cgroups.reads import ReadLimit
from sandbox.engines.cgroups.v1 import CgroupsV1, GroupV1
from sandbox.engines.cgroups.v2 import CgroupsV2, GroupV2

NEEDED = ("memory", "cpu", "cpuacct", "pids")


def open_cgroups(instance: str, mounts: str | None = None, reads: ReadLimit | None = None) -> Cgroups:
    """Open the version that this machine has; `instance` names the parent group of this service.

    `reads` is what each group may read, where the controller for it is there.
    """
    text = read_mounts() if mounts is None else mounts
    hierarchies, unified = parse_mounts(text)
    missing = [name for name in NEEDED if name not in hierarchies]
    if not missing:
        needed = {name: hierarchies[name] for name in NEEDED}
        return CgroupsV1(needed, instance, hierarchies.get("blkio"), reads, unified)
    if unified is None:
        raise EngineUnusable(f"cgroup controllers are not mounted: {', '.join(missing)}")
    return CgroupsV2(unified, instance, reads)


def group_of(
    pid: int, bounds: Bounds, mounts: str | None = None, membership: str | None = None
) -> GroupV1 | GroupV2:
    """Return the group of a process that another party has placed there, already limited to `bounds`.

    Raises EngineError if it cannot be seen from here. The texts are those of /proc, for tests.
    """
    text = read_mounts() if mounts is None else mounts
    hierarchies, unified = parse_mounts(text)
    member = Path(f"/proc/{pid}/cgroup").read_text() if membership is None else membership
    v1, v2 = parse_membership(member)
    if all(name in hierarchies for name in NEEDED):
        paths = {name: f"{hierarchies[name]}{v1.get(name, '/')}" for name in NEEDED}
        memsw = os.path.exists(f"{paths['memory']}/memory.memsw.limit_in_bytes")
        own = None if unified is None or v2 in (None, "/") else f"{unified}{v2}"
        group: GroupV1 | GroupV2 = GroupV1(paths, memsw=memsw, bounds=bounds, unified=own)
        shown = paths["pids"]
    elif unified is not None and v2 is not None:
        shown = f"{unified}{v2}"
        group = GroupV2(shown, bounds=bounds)
    else:
        raise EngineError("cgroup controllers are not mounted")
    if pid not in group.pids():
        raise EngineError(f"the control group of process {pid} is not to be seen at {shown}")
    return group

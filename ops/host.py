"""Preparations of the machine before a worker starts: cgroup controllers, and cheap moves between groups.

crun refuses a hybrid machine (cgroup v1, with an additional v2 tree) while a controller is left in the v2 tree,
and every write of a live pid to `cgroup.procs` waits for the kernel, 15 ms after an idle gap, unless the v2
tree is mounted with `favordynmods` (Linux 6.0; Documentation/admin-guide/cgroup-v2.rst). Both may stay in place
when the service ends. Standard library only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

FAVOR = "favordynmods"


@dataclass(frozen=True, slots=True)
class CgroupMounts:
    """The mount points of this machine's control groups. `v1` maps controllers to mount points."""

    v1: dict[str, Path]
    v2: Path | None
    v2_options: frozenset[str]

    @property
    def hybrid(self) -> bool:
        """Return whether the controllers are v1 and a v2 tree exists next to them."""
        return self.v2 is not None and "memory" in self.v1


def cgroup_mounts(mounts: str | None = None) -> CgroupMounts:
    """Read from /proc/self/mounts, or from a text like it."""
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    v1: dict[str, Path] = {}
    v2, v2_options = None, frozenset[str]()
    for line in text.splitlines():
        _, point, kind, options, *_ = line.split(" ")
        if kind == "cgroup":
            for option in options.split(","):
                v1.setdefault(option, Path(point))
        elif kind == "cgroup2" and v2 is None:
            v2, v2_options = Path(point), frozenset(options.split(","))
    return CgroupMounts(v1, v2, v2_options)


def prepare(mounts: str | None = None) -> None:
    """Bring the machine into the state a worker needs. Every change is logged; a second call changes nothing.

    Failures are logged too. The engine later checks the requirements and reports missing ones.
    """
    found = cgroup_mounts(mounts)
    for name in left_in_v2(found):
        _mount_v1(found.v1["memory"].parent, name)
    _favor_moves(found)


def left_in_v2(found: CgroupMounts) -> list[str]:
    """List the controllers that a hybrid machine still has in its v2 tree."""
    if not found.hybrid or found.v2 is None:
        return []
    try:
        return (found.v2 / "cgroup.controllers").read_text().split()
    except OSError:
        return []


def _mount_v1(folder: Path, name: str) -> None:
    point = folder / name
    with _writable(folder):
        try:
            point.mkdir(exist_ok=True)
        except OSError as e:
            log.warning("cannot mount a cgroup controller", extra={"controller": name, "reason": str(e)})
            return
        _mount(["-t", "cgroup", "-o", name, "cgroup", str(point)], f"mounted cgroup controller {name}")


def _favor_moves(found: CgroupMounts) -> None:
    if found.v2 is not None and FAVOR not in found.v2_options:
        _mount(["-o", f"remount,{FAVOR}", str(found.v2)], f"remounted {found.v2} with {FAVOR}")


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Make the folder of a hybrid machine's hierarchies writable for the block, if systemd mounts it read-only."""
    read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    if read_only:
        _mount(["-o", "remount,rw", str(folder)], f"made {folder} writable for a moment")
    try:
        yield
    finally:
        if read_only:
            _mount(["-o", "remount,ro", str(folder)], f"made {folder} read-only again")


def _mount(arguments: list[str], done: str) -> None:
    result = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        log.info(done)
    else:
        log.warning("mount failed", extra={"arguments": arguments, "reason": result.stderr.strip()})

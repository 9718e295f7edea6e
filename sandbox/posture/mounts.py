"""The mounts of a sandbox as its mountinfo shows them to the host: which there are, and how each is held.

See proc_pid_mountinfo(5). Left out are irrelevant differences between kernels (atimes, inode numbers) and
mounts beneath a covered one, which cannot be reached.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.engines.confinement import MASKED_PROC, READONLY_PATHS, RUN_UID
from sandbox.engines.pid1_status import ProcessView
from sandbox.languages import BUILD_DIRECTORY

FLAGS = ("ro", "rw", "nosuid", "nodev", "noexec")
#: Of a tmpfs: how much it holds and whose it is.
TOLD = ("size", "nr_inodes", "mode", "uid", "gid")
#: File systems that hold nothing of the host's disks; of the others it does not matter which it is.
VIRTUAL = frozenset({"tmpfs", "proc", "sysfs", "devpts", "mqueue", "overlay", "cgroup", "cgroup2", "devtmpfs"})
MASKED = (*(f"/proc/{name}" for name in MASKED_PROC), "/sys")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    point: str
    kind: str
    flags: tuple[str, ...]
    options: dict[str, str]
    root: str

    @property
    def covers(self) -> bool:
        """Return whether this mount hides the path beneath: an empty read-only tmpfs, or /dev/null over a file."""
        return (self.kind == "tmpfs" and "ro" in self.flags) or self.root.endswith("/null")


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts of a mountinfo, the later ones above the earlier."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, point, flags, *_ = before.split(" ")
        kind, _, options = after.split(" ", 2)
        pairs = dict(option.partition("=")[::2] for option in options.split(","))
        held = tuple(flag for flag in FLAGS if flag in flags.split(","))
        if "ro" in pairs and "rw" in held:  # the file system itself is read-only
            held = ("ro", *(flag for flag in held if flag != "rw"))
        found.append(Mount(point.encode().decode("unicode_escape"), kind, held, pairs, root))
    return found


def read_mounts(subject: ProcessView) -> dict[str, dict[str, Any]]:
    """Return the layers that mounts make."""
    text = Path(f"/proc/{subject.pid}/mountinfo").read_text()
    top = {mount.point: mount for mount in parse_mountinfo(text)}  # of several at one point, the last is seen
    covered = {point for point in MASKED if point in top and top[point].covers}
    plain = {
        point: _said(mount, subject)
        for point, mount in sorted(top.items())
        if point not in {"/", BUILD_DIRECTORY, *READONLY_PATHS} and not _beneath(point, covered)
    }
    layers: dict[str, dict[str, Any]] = {
        "root": {"/": _said(top["/"], subject)},
        "mounts": plain,
        "masked": {point: _masked(point, covered, subject) for point in MASKED},
        "read_only": {point: _read_only(point, top) for point in READONLY_PATHS},
    }
    if BUILD_DIRECTORY in top:
        layers["build_directory"] = {BUILD_DIRECTORY: _said(top[BUILD_DIRECTORY], subject, sized=False)}
    return layers


def _beneath(point: str, places: set[str]) -> bool:
    return any(point == place or point.startswith(f"{place}/") for place in places)


def _said(mount: Mount, subject: ProcessView, *, sized: bool = True) -> str:
    """Return a mount in the form of a posture file: `tmpfs rw,nosuid,nodev size=131072k …`; some sizes depend on
    the language.
    """
    told = []
    for name in TOLD if mount.kind == "tmpfs" else ():
        value = mount.options.get(name)
        if value is None:
            continue
        if name in {"uid", "gid"}:
            value = f"slot+{int(value) - (subject.uid - RUN_UID)}" if subject.uid is not None else value
        told.append(f"{name}={'the language' if name == 'size' and not sized else value}")
    kind = mount.kind if mount.kind in VIRTUAL else "host"
    return " ".join([kind, ",".join(mount.flags), *told])


def _masked(point: str, covered: set[str], subject: ProcessView) -> str:
    if point in covered:
        return "hidden"
    # No program has run in there, so the path cannot be redirected.
    there = f"/proc/{subject.pid}/root{point}"
    if not os.path.lexists(there):
        return "hidden"
    return "hidden" if os.path.isdir(there) and not os.listdir(there) else "open"


def _read_only(point: str, top: dict[str, Mount]) -> str:
    """Return whether the mount of a path is read-only."""
    while point not in top:
        point = os.path.dirname(point)
    return "ro" if "ro" in top[point].flags else "rw"

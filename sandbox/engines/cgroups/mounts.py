"""Find the mounts of control group hierarchies, and the place of a process or a name in them."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path


def read_mounts() -> str:
    """Return the mounts that this process sees: see proc_pid_mounts(5)."""
    return Path("/proc/self/mounts").read_text()


def parse_membership(text: str) -> tuple[dict[str, str], str | None]:
    """Return the v1 controllers with a process's path in each, and its v2 path: see cgroups(7)."""
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
    """Return the v1 controllers with their mount points, and the v2 mount point if there is one."""
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
    """Return the directories of a group's name in every hierarchy, including unused controllers."""
    text = read_mounts() if mounts is None else mounts
    points = dict.fromkeys(
        point for _, point, kind, *_ in (line.split(" ") for line in text.splitlines()) if kind.startswith("cgroup")
    )
    return [f"{point}/{path}" for point in points if os.path.isdir(f"{point}/{path}")]


def remove_empty(instance: str, mounts: str | None = None) -> None:
    """Remove the empty groups beneath a service's own, in every hierarchy."""
    for parent in directories_named(instance, mounts):
        for entry in os.scandir(parent):
            if entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.rmdir(entry.path)


def remove_parents(instance: str, mounts: str | None = None) -> None:
    """Remove a service's own group where it is empty, in every hierarchy, and the empty groups beneath it."""
    remove_empty(instance, mounts)
    for parent in directories_named(instance, mounts):
        with contextlib.suppress(OSError):  # another engine of this service has groups there
            os.rmdir(parent)

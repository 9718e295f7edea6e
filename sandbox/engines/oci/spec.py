"""The OCI runtime configuration of a sandbox: what is always true of one, as data.

Written once for each image and kind of start; a sandbox's own root and user namespace are put in place of two
marks. Field meanings: opencontainers/runtime-spec, config.md and config-linux.md.
"""

from __future__ import annotations

import json
import os
import resource
from dataclasses import dataclass
from typing import Any

from sandbox.job import WORK_SHARE

ROOT_MARK = "@@ROOT@@"
USERNS_MARK = "@@USERNS@@"

#: The program's uid and gid inside its user namespace.
RUN_UID = 1000
#: As Docker's default list and more (SECURITY.md, rule 8). Only what exists on this kernel is mounted over.
MASKED_PROC = (
    "acpi asound buddyinfo bus cmdline config.gz crypto diskstats driver fs interrupts iomem ioports irq "
    "kallsyms kcore key-users keys kmsg kpagecgroup kpagecount kpageflags latency_stats locks modules "
    "pagetypeinfo partitions pressure sched_debug scsi slabinfo softirqs swaps sysrq-trigger sysvipc "
    "timer_list timer_stats tty vmallocinfo zoneinfo"
).split()
MAX_OPEN_FILES = 1024
MAX_FILE_BYTES = 2**30
MAX_PENDING_SIGNALS = 1024
MAX_LOCKED_BYTES = 65_536
#: The parts of a sandbox's memory that its file systems may fill: together less than all, so that a full
#: disk is ENOSPC and not an OOM kill.
TMP_SHARE, SHM_SHARE = 0.25, 0.125
MAX_INODES = 16_384


@dataclass(frozen=True, slots=True)
class Profile:
    """A seccomp profile: the data of its JSON text, and that text's digest."""

    data: dict[str, Any]
    digest: str


def tmpfs_sizes(memory_bytes: int) -> dict[str, int]:
    """Bytes that /work, /tmp and /dev/shm may hold in a sandbox of that memory."""
    return {
        "/work": int(memory_bytes * WORK_SHARE),
        "/tmp": int(memory_bytes * TMP_SHARE),
        "/dev/shm": int(memory_bytes * SHM_SHARE),
    }


def build_spec(
    *,
    argv: list[str],
    env: dict[str, str],
    memory_bytes: int,
    seccomp: dict[str, Any] | None,
    apparmor: str | None,
    no_new_privileges: bool,
    annotations: dict[str, str],
) -> str:
    """The configuration as JSON text with ROOT_MARK and USERNS_MARK in it."""
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": RUN_UID, "gid": RUN_UID, "umask": 0o022},
        "args": argv,
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": "/work",
        "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "rlimits": _rlimits(),
        "noNewPrivileges": no_new_privileges,
        "oomScoreAdj": 500,
    }
    if apparmor:
        process["apparmorProfile"] = apparmor
    linux: dict[str, Any] = {
        "namespaces": [
            *({"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network", "cgroup")),
            {"type": "user", "path": USERNS_MARK},
        ],
        "maskedPaths": [f"/proc/{name}" for name in MASKED_PROC if os.path.exists(f"/proc/{name}")],
        "readonlyPaths": ["/proc/sys"],
    }
    if seccomp is not None:
        linux["seccomp"] = seccomp
    return json.dumps(
        {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": ROOT_MARK, "readonly": True},
            "hostname": "sandbox",
            "mounts": _mounts(memory_bytes),
            "linux": linux,
            "annotations": annotations,
        }
    )


def _rlimits() -> list[dict[str, Any]]:
    wanted = {
        "NOFILE": MAX_OPEN_FILES,
        "CORE": 0,
        "FSIZE": MAX_FILE_BYTES,
        "SIGPENDING": MAX_PENDING_SIGNALS,
        "MSGQUEUE": 0,
        "MEMLOCK": MAX_LOCKED_BYTES,
    }
    rows = []
    for name, value in wanted.items():
        # A hard limit can be raised by no one without CAP_SYS_RESOURCE, which the worker need not have.
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        rows.append({"type": f"RLIMIT_{name}", "soft": bound, "hard": bound})
    return rows


def _mounts(memory_bytes: int) -> list[dict[str, Any]]:
    size = tmpfs_sizes(memory_bytes)
    owned = [f"uid={RUN_UID}", f"gid={RUN_UID}", "mode=0700"]

    def tmpfs(target: str, *options: str) -> dict[str, Any]:
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": list(options)}

    return [
        {
            "destination": "/proc",
            "type": "proc",
            "source": "proc",
            "options": ["nosuid", "noexec", "nodev"],
        },
        tmpfs("/work", "nosuid", "nodev", f"size={size['/work']}", f"nr_inodes={MAX_INODES}", *owned),
        tmpfs(
            "/tmp",
            "nosuid",
            "nodev",
            "noexec",
            f"size={size['/tmp']}",
            f"nr_inodes={MAX_INODES}",
            *owned,
        ),
        # The sandbox's own /dev (devices.py) upon itself: told so, the runtime makes no nodes there.
        {"destination": "/dev", "type": "bind", "source": f"{ROOT_MARK}/dev", "options": ["bind", "ro", "noexec"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "max=16"],
        },
        tmpfs(
            "/dev/shm",
            "nosuid",
            "nodev",
            "noexec",
            "mode=1777",
            f"size={size['/dev/shm']}",
            f"nr_inodes={MAX_INODES}",
        ),
    ]

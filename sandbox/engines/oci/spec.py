"""The OCI runtime configuration of a sandbox: what is always true of one, as data.

Written once for each image and kind of start; a sandbox's own root and user namespace are put in place of two
marks. Field meanings: opencontainers/runtime-spec, config.md and config-linux.md.
"""

from __future__ import annotations

import json
from typing import Any

from sandbox.engines.confinement import (
    HOSTNAME,
    MAX_INODES,
    OOM_SCORE_ADJ,
    READONLY_PATHS,
    RUN_UID,
    masked_proc,
    rlimits,
    tmpfs_sizes,
)

ROOT_MARK = "@@ROOT@@"
USERNS_MARK = "@@USERNS@@"


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
        "rlimits": [{"type": f"RLIMIT_{name}", "soft": v, "hard": v} for name, v in rlimits().items()],
        "noNewPrivileges": no_new_privileges,
        "oomScoreAdj": OOM_SCORE_ADJ,
    }
    if apparmor:
        process["apparmorProfile"] = apparmor
    linux: dict[str, Any] = {
        "namespaces": [
            *({"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network", "cgroup")),
            {"type": "user", "path": USERNS_MARK},
        ],
        "maskedPaths": masked_proc(),
        "readonlyPaths": READONLY_PATHS,
    }
    if seccomp is not None:
        linux["seccomp"] = seccomp
    return json.dumps(
        {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": ROOT_MARK, "readonly": True},
            "hostname": HOSTNAME,
            "mounts": _mounts(memory_bytes),
            "linux": linux,
            "annotations": annotations,
        }
    )


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

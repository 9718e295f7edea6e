"""The OCI runtime configuration of a sandbox: what is always true of one, as data.

Written once for each image and kind of start; a sandbox's own root, user namespace, first uid and control group
are put in place of marks. Field meanings: opencontainers/runtime-spec, config.md and config-linux.md.
"""

from __future__ import annotations

import json
import os
from typing import Any

from sandbox.engines.confinement import (
    HOSTNAME,
    IDS_PER_SLOT,
    MAX_INODES,
    OOM_SCORE_ADJ,
    READONLY_PATHS,
    RUN_UID,
    TERMINALS,
    masked_proc,
    rlimits,
    tmpfs_sizes,
)
from sandbox.engines.runtime_features import RuntimeFeatures
from sandbox.languages import BUILD_DIRECTORY

ROOT_MARK = "@@ROOT@@"
USERNS_MARK = "@@USERNS@@"
GROUP_MARK = "@@GROUP@@"
#: With its quotes: a number stands there.
FIRST_UID_MARK = '"@@UID@@"'


def build_spec(
    *,
    argv: list[str],
    env: dict[str, str],
    memory_bytes: int,
    build_bytes: int,
    seccomp: dict[str, Any] | None,
    apparmor: str | None,
    no_new_privileges: bool,
    annotations: dict[str, str],
    traits: RuntimeFeatures,
) -> str:
    """Return the configuration as JSON text with the four marks in it.

    `build_bytes`, where it is not 0, is the size of a place for what a compiler makes.
    """
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": RUN_UID, "gid": RUN_UID, "umask": 0o022},
        "args": argv,
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": "/work",
        "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "noNewPrivileges": no_new_privileges,
        "oomScoreAdj": OOM_SCORE_ADJ,
    }
    if traits.sets_rlimits:
        process["rlimits"] = [
            {"type": f"RLIMIT_{name}", "soft": bound, "hard": bound} for name, bound in rlimits().items()
        ]
    if apparmor:
        process["apparmorProfile"] = apparmor
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network", "cgroup")],
        "cgroupsPath": GROUP_MARK,
        "maskedPaths": masked_proc(),
        "readonlyPaths": READONLY_PATHS,
    }
    if traits.time_namespace and os.path.exists("/proc/self/ns/time"):
        linux["namespaces"].append({"type": "time"})
    if traits.user_namespace:
        linux["namespaces"].append({"type": "user", "path": USERNS_MARK})
        if traits.takes_id_maps:
            linux["uidMappings"] = linux["gidMappings"] = [_mapping()]
    if seccomp is not None and traits.seccomp:
        linux["seccomp"] = seccomp
    return json.dumps(
        {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": ROOT_MARK, "readonly": True},
            "hostname": HOSTNAME,
            "mounts": mounts(memory_bytes, build_bytes, own_devices=traits.own_devices),
            "linux": linux,
            "annotations": annotations,
        }
    )


def _mapping() -> dict[str, Any]:
    return {"containerID": 0, "hostID": FIRST_UID_MARK.strip('"'), "size": IDS_PER_SLOT}


def mounts(memory_bytes: int, build_bytes: int, *, own_devices: bool) -> list[dict[str, Any]]:
    """Return every mount of a sandbox but its root, in the form of the configuration."""
    size = tmpfs_sizes(memory_bytes)
    owned = [f"uid={RUN_UID}", f"gid={RUN_UID}", "mode=0700"]

    def tmpfs(target: str, *options: str) -> dict[str, Any]:
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": list(options)}

    build = tmpfs(BUILD_DIRECTORY, "nosuid", "nodev", f"size={build_bytes}", f"nr_inodes={MAX_INODES}", *owned)
    return [
        *([build] if build_bytes else []),
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
        *([] if own_devices else devices()),
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


def devices() -> list[dict[str, Any]]:
    """Return the mounts of /dev, above the layer that `devices.py` makes."""
    return [
        # The sandbox's own /dev (devices.py) upon itself: with this entry the runtime makes no nodes. The root's
        # own nosuid must be named again: in a user namespace a mount cannot lose it, and runc would try.
        {
            "destination": "/dev",
            "type": "bind",
            "source": f"{ROOT_MARK}/dev",
            "options": ["bind", "ro", "nosuid", "noexec"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", *TERMINALS],
        },
    ]

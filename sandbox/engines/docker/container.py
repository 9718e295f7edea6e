"""The body of a container's creation: SECURITY.md's set of fields, as the Engine API names them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.engines.cgroups.group import Bounds
from sandbox.engines.cgroups.reads import ReadLimit
from sandbox.engines.confinement import (
    DEFAULT_MEMORY_BYTES,
    HOSTNAME,
    MAX_INODES,
    OOM_SCORE_ADJ,
    READONLY_PATHS,
    masked_proc,
    rlimits,
    tmpfs_sizes,
)
from sandbox.languages import BUILD_DIRECTORY

NANO = 1_000_000_000
#: The places of packages in a sandbox, and where a layer has them: for all but the first it has links.
PACKAGE_PLACES = {
    "opt/packages": "opt/packages",
    "node_modules": "opt/packages/node_modules",
    "package.json": "opt/packages/package.json",
}


@dataclass(frozen=True, slots=True)
class Confinement:
    """The confinement of all containers of an engine. `seccomp` is the profile's data; None omits the filter."""

    runtime: str
    seccomp: dict[str, Any] | None
    apparmor: str | None
    no_new_privileges: bool
    cgroup_parent: str
    reads: ReadLimit | None = None


def container_config(
    confinement: Confinement,
    *,
    image: str,
    argv: list[str],
    env: dict[str, str],
    uid: int,
    bounds: Bounds,
    labels: dict[str, str],
    build_bytes: int = 0,
    layers: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the body of POST /containers/create; docs/confinement.md (`docker`) has the reasons for its fields.

    `layers` are the mounts of a layer of packages (`layer_mounts`).
    """
    return {
        "Image": image,
        "Entrypoint": argv[:1],
        "Cmd": argv[1:],
        # A name without a value takes away what the daemon would add.
        "Env": [f"{name}={value}" for name, value in env.items()] + ["HOSTNAME"],
        "User": f"{uid}:{uid}",
        "WorkingDir": "/work",
        "Hostname": HOSTNAME,
        "NetworkDisabled": True,
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": labels,
        "HostConfig": {
            **_host_config(confinement, uid, bounds, build_bytes),
            "Mounts": layers or [],
        },
    }


def _host_config(confinement: Confinement, uid: int, bounds: Bounds, build_bytes: int) -> dict[str, Any]:
    return {
        "Runtime": confinement.runtime,
        "CgroupParent": confinement.cgroup_parent,
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": _security(confinement),
        "Tmpfs": _tmpfs(uid, build_bytes),
        "Memory": bounds.memory_bytes,
        "MemorySwap": bounds.memory_bytes,
        "PidsLimit": bounds.pids,
        "NanoCpus": int(bounds.cpus * NANO),
        **_reads(confinement.reads),
        "Ulimits": [{"Name": name.lower(), "Soft": bound, "Hard": bound} for name, bound in rlimits().items()],
        # An ipc namespace of its own with no /dev/shm of the daemon's: the one of _tmpfs is bounded in inodes.
        "IpcMode": "none",
        "CgroupnsMode": "private",
        "LogConfig": {"Type": "none", "Config": {}},
        "Init": False,
        "OomScoreAdj": OOM_SCORE_ADJ,
        "AutoRemove": True,
        # These replace the daemon's lists.
        "MaskedPaths": [*masked_proc(), "/sys"],
        "ReadonlyPaths": READONLY_PATHS,
    }


def layer_mounts(layer: Path, on_daemon: Path) -> list[dict[str, Any]]:
    """Return the mounts of a layer's files: each place where it has any, read-only.

    `on_daemon` is the path of the layer for the daemon.
    """
    return [
        {
            "Type": "bind",
            "Source": str(on_daemon / place),
            "Target": f"/{target}",
            "ReadOnly": True,
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
        }
        for target, place in PACKAGE_PLACES.items()
        if (layer / place).exists()
    ]


def _reads(limit: ReadLimit | None) -> dict[str, Any]:
    if limit is None:
        return {}
    return {
        "BlkioDeviceReadBps": [{"Path": limit.node, "Rate": limit.bytes_per_s}],
        "BlkioDeviceReadIOps": [{"Path": limit.node, "Rate": limit.reads_per_s}],
    }


def _security(confinement: Confinement) -> list[str]:
    options = []
    if confinement.no_new_privileges:
        options.append("no-new-privileges:true")
    profile = "unconfined" if confinement.seccomp is None else json.dumps(confinement.seccomp)
    options.append(f"seccomp={profile}")
    if confinement.apparmor is not None:
        options.append(f"apparmor={confinement.apparmor}")
    return options


def _tmpfs(uid: int, build_bytes: int) -> dict[str, str]:
    size = tmpfs_sizes(DEFAULT_MEMORY_BYTES)
    owned = f"uid={uid},gid={uid},mode=0700"
    inodes = f"nr_inodes={MAX_INODES}"
    build = {BUILD_DIRECTORY: f"rw,exec,nosuid,nodev,size={build_bytes},{inodes},{owned}"}
    return {
        **(build if build_bytes else {}),
        "/work": f"rw,exec,nosuid,nodev,size={size['/work']},{inodes},{owned}",
        "/tmp": f"rw,noexec,nosuid,nodev,size={size['/tmp']},{inodes},{owned}",
        "/dev/shm": f"rw,noexec,nosuid,nodev,size={size['/dev/shm']},{inodes},mode=1777",
    }

"""The runtime's configuration of a template's container: what a sandbox's is, but for what forking them takes.

It is root of the templates' user namespace with three capabilities there and no others; its /proc hides nothing and
is writable (else the kernel refuses its children a /proc of their own); and it has no seccomp filter, since making
namespaces and mounts is what it is for. It has no network, a read-only root, and runs only what is in the image.
"""

from __future__ import annotations

import json
from typing import Any

from sandbox.engines.confinement import HOSTNAME
from sandbox.engines.oci.spec import GROUP_MARK, ROOT_MARK, USERNS_MARK, devices

#: ADMIN: namespaces and mounts; SETUID and SETGID: the id maps of children.
CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"]


def build_template_spec(
    *,
    argv: list[str],
    env: dict[str, str],
    mapping: list[tuple[int, int, int]] | None,
    no_new_privileges: bool,
    apparmor: str | None = None,
) -> str:
    """Return the configuration as JSON text with the marks of `oci/spec.py` in it.

    `mapping` is that of the user namespace, for a runtime that takes it. `apparmor` is the template's own profile,
    None on a kernel without AppArmor. Under it nothing can be executed, and each child sets no_new_privs after it
    has changed to its own profile, which that flag would forbid. Without it the children inherit
    `no_new_privileges` from their template.
    """
    sets: dict[str, list[str]] = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    ids = [{"containerID": inside, "hostID": outside, "size": count} for inside, outside, count in mapping or ()]
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0, "umask": 0o022},
        "args": argv,
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": "/work",
        "capabilities": {**sets, "inheritable": [], "ambient": []},
        "noNewPrivileges": no_new_privileges and apparmor is None,
        "oomScoreAdj": 0,
    }
    if apparmor is not None:
        process["apparmorProfile"] = apparmor
    return json.dumps(
        {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": ROOT_MARK, "readonly": True},
            "hostname": HOSTNAME,
            "mounts": _mounts(),
            "linux": {
                "namespaces": [
                    *({"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network", "cgroup")),
                    {"type": "user", "path": USERNS_MARK},
                ],
                **({"uidMappings": ids, "gidMappings": ids} if ids else {}),
                "cgroupsPath": GROUP_MARK,
            },
        }
    )


def _mounts() -> list[dict[str, Any]]:
    def tmpfs(target: str) -> dict[str, Any]:
        options = ["nosuid", "nodev", "noexec", "mode=0700", "size=16m", "nr_inodes=1024"]
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}

    proc = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}
    return [proc, tmpfs("/work"), tmpfs("/tmp"), *devices(), tmpfs("/dev/shm")]

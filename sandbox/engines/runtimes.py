"""The OCI runtimes that the engine `oci` can drive, in the order in which it prefers them, and where they lie."""

from __future__ import annotations

import shutil

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Chosen from when RUNTIME is unset. gVisor is never a silent choice: it costs much and confines differently.
RUNTIMES = ("crun", "runc")


def find_runtime(name: str) -> str | None:
    """Return the path of an installed runtime."""
    return shutil.which(name, path=SYSTEM_PATH)

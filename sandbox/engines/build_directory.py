"""Close the build directory between the compiler's end and the program's start."""

from __future__ import annotations

from sandbox.engines import SandboxBroken
from sandbox.engines.runtime_features import RuntimeFeatures
from sandbox.engines.syscalls import make_read_only
from sandbox.languages import BUILD_DIRECTORY


def close_build_directory(pid: int, traits: RuntimeFeatures) -> None:
    """Let nothing more be written to the build directory of the sandbox of that PID 1. Raises SandboxBroken.

    gVisor's file systems are its own and cannot be reached from here: there the program may write to it, within its
    size and its own memory.
    """
    if not traits.resizes_tmpfs:
        return
    try:
        # A mount point on the read-only root: the compiled program cannot redirect this path.
        make_read_only(f"/proc/{pid}/root{BUILD_DIRECTORY}")
    except OSError as e:
        raise SandboxBroken(f"the build directory cannot be closed: {e}") from e

"""The fewest capabilities that a worker works with, and no way back to the others.

The list is measured: without any one of them some runtime does not start a sandbox, and the suites of every engine
and runtime run under it. A dropped capability is also dropped from the
bounding set, so that no program that the worker starts as root gains it. See capabilities(7).
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

from sandbox.engines.syscalls import set_capabilities

log = logging.getLogger(__name__)

#: Number and what it is for. A test compares docs/confinement.md with this table.
KEPT: dict[str, tuple[int, str]] = {
    "CAP_CHOWN": (0, "gives the socket to api's group; runc gives its fifo to the sandbox"),
    "CAP_DAC_OVERRIDE": (1, "reads uploads, which are api's alone, and makes control groups"),
    "CAP_FOWNER": (3, "sets modes when it unpacks an image that was made elsewhere"),
    "CAP_FSETID": (4, "keeps api's group on the directories of artifacts"),
    "CAP_KILL": (5, "kills programs, which run under the uids of their slots"),
    "CAP_SETGID": (6, "becomes a slot's first gid, that its user namespace be its own, and writes the gid map"),
    "CAP_SETUID": (7, "the same with uids"),
    "CAP_SYS_CHROOT": (18, "lets runc join a mount namespace, and gVisor's helpers change their root"),
    "CAP_SYS_PTRACE": (19, "measures sandboxes, and resizes their mounts, through /proc/PID"),
    "CAP_SYS_ADMIN": (21, "mounts, makes and joins namespaces"),
    "CAP_SYS_NICE": (23, "lets crun 1.9 and newer reset the CPU affinity of a sandbox's first process"),
    "CAP_MKNOD": (27, "makes the six device nodes, and the marks of deletion of imported images"),
}
CAP_SETPCAP = 8
PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4


def drop_privileges() -> None:
    """Give up every capability that is not in KEPT, for good. To be called before there are threads.

    Raises OSError if the kernel refuses.
    """
    if os.geteuid() != 0:
        return
    kept = sum(1 << number for number, _ in KEPT.values()) & permitted()
    libc = ctypes.CDLL(None, use_errno=True)
    if permitted() >> CAP_SETPCAP & 1:
        for number in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
            if not kept >> number & 1:
                _checked(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "prctl(PR_CAPBSET_DROP)")
    else:  # in a container without it, the container's own set bounds what can be had
        log.warning("the bounding set stays as it is, without CAP_SETPCAP")
    _checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl(PR_CAP_AMBIENT)")
    set_capabilities(kept)
    log.info("capabilities", extra={"kept": [name for name, (number, _) in KEPT.items() if kept >> number & 1]})


def permitted() -> int:
    """Return this thread's permitted capabilities as a bit mask."""
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("CapPrm:")), 16)


def _checked(result: int, name: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")

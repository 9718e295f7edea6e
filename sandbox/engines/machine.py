"""Limits of the whole machine that every sandbox draws upon: raised at the start, never lowered.

Each is shared by all runs, so one run must not be able to exhaust it. The share of one run is bounded
elsewhere (`confinement.py`, the profile, its control group); here the sum of that is made to fit.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from protocol.limits import LIMIT_RULES, MIB
from sandbox.engines.cgroups.group import SOCKET_SHARE
from sandbox.engines.confinement import MAX_OPEN_FILES

log = logging.getLogger(__name__)

SYSCTL = Path("/proc/sys")
#: Open files of one run: each of its processes may have as many.
TASKS_OF_A_RUN = int(LIMIT_RULES["pids"].ceiling)
FILES_OF_A_RUN = MAX_OPEN_FILES * TASKS_OF_A_RUN
#: For everything else on the machine.
FILES_OF_OTHERS, TASKS_OF_OTHERS = 1_000_000, 32_768
#: A kernel accepts no more than its address space for it, which is not readable: the first accepted value is kept.
BPF_JIT_BYTES = (1024 * MIB, 1008 * MIB, 512 * MIB, 256 * MIB)
PAGE_BYTES = 4096


def raise_limits(max_runs: int, memory_mb: int) -> None:
    """Raise the kernel's limits for `max_runs` runs at their maximum, with `memory_mb` together. Logs refusals."""
    raise_limit("fs/file-max", (max_runs * FILES_OF_A_RUN + FILES_OF_OTHERS,))
    tasks = max_runs * TASKS_OF_A_RUN + TASKS_OF_OTHERS
    for name in ("kernel/pid_max", "kernel/threads-max"):
        raise_limit(name, (tasks,))
    raise_limit("net/core/bpf_jit_limit", BPF_JIT_BYTES)
    for protocol in ("tcp", "udp"):
        raise_pages(f"net/ipv4/{protocol}_mem", int(memory_mb * MIB * SOCKET_SHARE) // PAGE_BYTES)


def raise_limit(name: str, wanted: tuple[int, ...]) -> None:
    """Set one limit to the first of `wanted` that the kernel takes, if it is lower than that."""
    with contextlib.suppress(FileNotFoundError, ValueError):  # a kernel without it needs none
        path = SYSCTL / name
        found = int(path.read_text())
        for value in wanted:
            if value <= found:
                return
            with contextlib.suppress(OSError):
                path.write_text(str(value))
                log.info("raised a limit of the machine", extra={"limit": name, "before": found, "now": value})
                return
        log.warning("a limit of the machine could not be raised", extra={"limit": name, "value": found})


def raise_pages(name: str, pages: int) -> None:
    """Have the last of three numbers, the hard limit of a protocol's buffers, hold `pages` beyond the second."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        path = SYSCTL / name
        low, pressure, high = map(int, path.read_text().split())
        if pressure + pages <= high:
            return
        try:
            path.write_text(f"{low} {pressure} {pressure + pages}")
        except OSError as e:
            log.warning("a limit of the machine could not be raised: %s", e, extra={"limit": name, "value": high})

"""Define, as data, the confinement that every sandbox has with any engine, and load its profiles."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from protocol.job import WORK_SHARE
from protocol.limits import MIB, Limits
from sandbox.engines import EngineUnusable
from sandbox.engines.cgroups.group import Bounds
from sandbox.languages import Language

#: The uid and gid of the image's one account, and of the program where the sandbox has a user namespace.
RUN_UID = 1000
HOSTNAME = "sandbox"
#: Host uids of one slot; where there is no user namespace, only one of them is used.
IDS_PER_SLOT = 65_536
OOM_SCORE_ADJ = 500
#: Processes of the agent itself, on top of those the program may have.
AGENT_PIDS = 1
DEFAULT_MEMORY_BYTES = Limits.resolve({}).memory_mb * MIB
BASE_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/work",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "MPLBACKEND": "Agg",
}
#: As Docker's default list and more (SECURITY.md, rule 8). Only what exists on this kernel is mounted over.
MASKED_PROC = (
    "acpi asound buddyinfo bus cmdline config.gz crypto diskstats driver fs interrupts iomem ioports irq "
    "kallsyms kcore key-users keys kmsg kpagecgroup kpagecount kpageflags latency_stats locks modules "
    "pagetypeinfo partitions pressure sched_debug scsi slabinfo softirqs swaps sysrq-trigger sysvipc "
    "timer_list timer_stats tty vmallocinfo zoneinfo"
).split()
READONLY_PATHS = ["/proc/sys"]
MAX_OPEN_FILES = 1024
MAX_FILE_BYTES = 2**30
MAX_PENDING_SIGNALS = 1024
MAX_LOCKED_BYTES = 65_536
#: The parts of a sandbox's memory that its file systems may fill: together less than all, so that a full
#: disk is ENOSPC and not an OOM kill.
TMP_SHARE, SHM_SHARE = 0.25, 0.125
#: The part of a compiler's memory that what it makes may fill.
BUILD_SHARE = 0.5
MAX_INODES = 16_384
#: Of a session's /work, where that is more.
INODES_PER_MB = 64
#: Of a sandbox's own devpts: terminals are a number of the machine, `kernel.pty.max`.
TERMINALS = ("ptmxmode=0666", "mode=0620", "max=16")
PROFILES = Path(__file__).resolve().parents[2] / "seccomp"


@dataclass(frozen=True, slots=True)
class Profile:
    """A seccomp profile: the data of its JSON text, and that text's digest."""

    data: dict[str, Any]
    digest: str


def load_profile(override: str | None) -> Profile:
    """Return the seccomp profile in use; `override` is SECCOMP_PROFILE. Raises EngineUnusable."""
    path = Path(override) if override else PROFILES / "default.json"
    try:
        text = path.read_bytes()
        data = json.loads(text)
    except (OSError, ValueError) as e:
        raise EngineUnusable(f"SECCOMP_PROFILE={path}: {e}") from e
    return Profile(data=data, digest="sha256:" + hashlib.sha256(text).hexdigest())


def apparmor_is_on() -> bool:
    """Return whether this kernel enforces AppArmor, with any profiles."""
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        return False


def unprivileged_namespaces_are_off() -> bool:
    """Return whether only the host's root may create user namespaces. The sysctl is Debian's and Ubuntu's."""
    try:
        return Path("/proc/sys/kernel/unprivileged_userns_clone").read_text().strip() == "0"
    except OSError:
        return False


def masked_proc() -> list[str]:
    """Return the paths of MASKED_PROC that exist in this kernel."""
    return [f"/proc/{name}" for name in MASKED_PROC if os.path.exists(f"/proc/{name}")]


class TmpfsRoom(NamedTuple):
    """The bounds of a file system of a sandbox."""

    size_bytes: int
    inodes: int = MAX_INODES


def tmpfs_sizes(memory_bytes: int) -> dict[str, int]:
    """Return the bytes that /work, /tmp and /dev/shm may hold in a sandbox of that memory."""
    return {
        "/work": int(memory_bytes * WORK_SHARE),
        "/tmp": int(memory_bytes * TMP_SHARE),
        "/dev/shm": int(memory_bytes * SHM_SHARE),
    }


def tmpfs_rooms(memory_bytes: int, disk_mb: int | None) -> dict[str, TmpfsRoom]:
    """Return what /work, /tmp and /dev/shm may hold; `disk_mb` is what a session wants of /work.

    The others have their shares of the memory that /work leaves.
    """
    if disk_mb is None:
        return {path: TmpfsRoom(size) for path, size in tmpfs_sizes(memory_bytes).items()}
    work = min(disk_mb * MIB, memory_bytes)
    rest = memory_bytes - work
    return {
        "/work": TmpfsRoom(work, max(MAX_INODES, disk_mb * INODES_PER_MB)),
        "/tmp": TmpfsRoom(int(rest * TMP_SHARE)),
        "/dev/shm": TmpfsRoom(int(rest * SHM_SHARE)),
    }


def bounds_of(limits: Limits) -> Bounds:
    """Return the bounds of the control group of a sandbox with these limits."""
    return Bounds(limits.memory_mb * MIB, limits.cpus, limits.pids + AGENT_PIDS)


def default_bounds(language: Language) -> Bounds:
    """Return the bounds of the control group of a waiting sandbox."""
    return bounds_of(Limits.resolve({}, pids_default=language.pids_default))


def rlimits() -> dict[str, int]:
    """Return the resource limits by name (`NOFILE`), soft and hard alike."""
    wanted = {
        "NOFILE": MAX_OPEN_FILES,
        "CORE": 0,
        "FSIZE": MAX_FILE_BYTES,
        "SIGPENDING": MAX_PENDING_SIGNALS,
        "MSGQUEUE": 0,
        "MEMLOCK": MAX_LOCKED_BYTES,
    }
    bounds = {}
    for name, value in wanted.items():
        # A hard limit can be raised by no one without CAP_SYS_RESOURCE, which the worker need not have.
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
        bounds[name] = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return bounds


def instance_name(state_dir: Path) -> str:
    """Return the name of this service's cgroups and containers; it differs between services on one machine."""
    return "runyard-" + hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]


def build_bytes(language: Language) -> int:
    """Return the size of the build directory; 0 for a language that is not compiled."""
    return int(language.compiler.memory_mb * MIB * BUILD_SHARE) if language.compiler else 0

"""The requirements of the service on a machine: one check each, with a remedy if it is not met.

Standard library only: `doctor` runs before anything is installed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from config.roles import role_of
from config.runtime_versions import RuntimeVersion, read_version
from ops import containers, host, install
from ops.environment import PATH
from ops.state import StatePlace

NEEDED_CONTROLLERS = ("memory", "cpu", "pids")
CLONE_NEWNS, CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
PR_GET_SECCOMP = 21
SECCOMP_GET_ACTION_AVAIL = 2
SYS_SECCOMP, SYS_LANDLOCK_CREATE_RULESET = 317, 444
LANDLOCK_CREATE_RULESET_VERSION = 1
#: The agent uses Landlock from this version on (Linux 5.19): version 1 forbids every rename across directories.
OLDEST_LANDLOCK_ABI = 2
FREE_DISK_MB = 3000
#: Of those that the worker keeps (worker/privileges.py), what a container's root often lacks.
NEEDED_CAPABILITIES = {"CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement. `mend` is the remedy when it is not `ok`; not all are `required`."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    required: bool = True


def all_checks(place: StatePlace) -> Iterator[Check]:
    """Yield every check of this machine's role, in the order in which a reader would fix the problems."""
    yield Check("root", os.geteuid() == 0, f"uid {os.geteuid()}", "run as root")
    machine = platform.machine()
    yield Check("x86-64", machine == "x86_64", machine, "only x86-64 is supported")
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check(
        "python", sys.version_info >= (3, 11), version, "Python 3.11 or newer is required (Debian 12 has it)"
    )
    missing = install.missing_packages()
    for name in install.needed_packages():
        yield Check(name, name not in missing, "package", f"apt-get install {name} (make up does)")
    runs_programs = role_of(os.environ).has_worker
    for name in ("setpriv", *(("unshare", "mount") if runs_programs else ())):
        yield Check(name, shutil.which(name) is not None, "program", "apt-get install util-linux mount")
    if runs_programs:
        yield from _engine()
        yield from machine_checks()
        yield _disk(place)


def machine_checks() -> Iterator[Check]:
    """Check what the engine oci requires of the kernel and of this process, and no package can bring."""
    yield from _rights()
    yield from _cgroups()
    yield from _kernel()


def _rights() -> Iterator[Check]:
    """Check that root here is root of the machine, which it is not in most containers."""
    container = _container()
    place = f"in a container ({container})" if container else "on the machine itself"
    whole = (PROC / "self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    mend = "run the service on the machine itself, or with ENGINE=docker (docs/compose.md)"
    yield Check("root of the machine", whole, place, f"root is mapped to another uid: {mend}")
    status = (PROC / "self/status").read_text()
    held = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapPrm:")), 16)
    missing = [name for name, number in NEEDED_CAPABILITIES.items() if not held >> number & 1]
    detail = f"{place}, without {', '.join(missing)}" if missing else place
    yield Check("capabilities", not missing, detail, f"add them to the container, or {mend}")


def _container() -> str:
    """Name the container manager that this process runs under, as systemd and Docker report it; empty outside."""
    for path in (Path("/run/systemd/container"), Path("/run/host/container-manager")):
        if path.exists():
            return path.read_text().strip() or "unknown"
    return "docker" if Path("/.dockerenv").exists() else ""


def _engine() -> Iterator[Check]:
    """Check the engine and the runtime that ENGINE and RUNTIME of this process select."""
    if os.environ.get("ENGINE") == "docker":
        yield _docker()
        return
    runtime = os.environ.get("RUNTIME") or "crun"
    path = shutil.which(runtime, path=PATH)
    version = read_version(runtime, path) if path is not None else None
    if runtime == "crun":
        yield _crun(version)
    else:
        mend = f"apt-get install {runtime} (make up does)"
        yield Check(f"{runtime} is there", path is not None, path or "not installed", mend)
    if version is not None:
        mend = f"{version.problem}; run make test-all, or install a tested version"
        yield Check(f"{runtime} is tested", version.is_tested, version.text, mend, required=False)


def _docker() -> Check:
    said = containers.version()
    host_ = os.environ.get("DOCKER_HOST") or containers.DEFAULT_HOST
    mend = f"apt-get install docker.io, start it, or set DOCKER_HOST (now {host_})"
    return Check("docker answers", said is not None, said or "no answer", mend)


def _crun(version: RuntimeVersion | None) -> Check:
    if version is None:
        return Check("crun works", ok=False, detail="not installed", mend="apt-get install crun (make up does)")
    mend = "install Debian's crun: this one lacks seccomp"
    return Check("crun works", "+SECCOMP" in version.features, version.text, mend)


def _cgroups() -> Iterator[Check]:
    found = host.cgroup_mounts()
    if found.v2 is not None and not found.hybrid:
        try:
            there = (found.v2 / "cgroup.controllers").read_text().split()
        except OSError:
            there = []
        kind = "v2"
    else:
        there, kind = list(found.v1), "v1, hybrid" if found.hybrid else "v1"
    for name in NEEDED_CONTROLLERS:
        mend = f"boot without cgroup_disable={name}, or mount the controller"
        yield Check(f"cgroup {name}", name in there, kind, mend)
    left = host.left_in_v2(found)
    yield Check(
        "cgroup layout",
        not left,
        f"controllers left in v2: {' '.join(left) or 'none'}",
        "make up mounts them as v1",
        required=False,
    )
    favored = found.v2 is None or host.FAVOR in found.v2_options
    yield Check(
        "cgroup moves are fast", favored, host.FAVOR, "make up remounts cgroup2 with this option", required=False
    )


def _kernel() -> Iterator[Check]:
    known = {line.split("\t")[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    yield Check("overlay", "overlay" in known or _loads("overlay"), "file system", "modprobe overlay")
    libc = ctypes.CDLL(None, use_errno=True)
    yield Check(
        "user namespaces",
        _in_child(lambda: libc.unshare(CLONE_NEWUSER)),
        "kernel",
        "sysctl user.max_user_namespaces=65536",
    )
    yield from _restrictions()
    yield Check(
        "mount namespaces",
        _in_child(lambda: libc.unshare(CLONE_NEWNS)),
        "kernel",
        "the service needs full root rights",
    )
    action = ctypes.c_uint32(0x7FFC_0000)  # SECCOMP_RET_LOG: any known action will do to ask
    seccomp = libc.syscall(SYS_SECCOMP, SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action)) == 0
    yield Check("seccomp", seccomp, "kernel", "a kernel with CONFIG_SECCOMP_FILTER")
    apparmor = Path("/sys/module/apparmor/parameters/enabled")
    on = apparmor.exists() and apparmor.read_text().strip() == "Y"
    yield Check(
        "AppArmor",
        on,
        "additional protection, if the kernel has it",
        "boot with apparmor=1 security=apparmor",
        required=False,
    )
    abi = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    off = os.strerror(ctypes.get_errno() or errno.ENOSYS)
    yield Check(
        "Landlock",
        abi >= OLDEST_LANDLOCK_ABI,
        f"ABI {abi}" if abi > 0 else off,
        "Linux 5.19 or newer, lsm=landlock",
        required=False,
    )


def _restrictions() -> Iterator[Check]:
    """Check the switches by which Debian and Ubuntu keep unprivileged users from making user namespaces."""
    clone = _sysctl("kernel/unprivileged_userns_clone")
    if clone is not None:
        mend = "sysctl kernel.unprivileged_userns_clone=1; without it each sandbox is a container at twice the CPU"
        yield Check(
            "namespaces of templates", clone != "0", "kernel.unprivileged_userns_clone", mend, required=False
        )
    restricted = _sysctl("kernel/apparmor_restrict_unprivileged_userns")
    if restricted is not None:
        # The worker makes its namespaces with CAP_SYS_ADMIN, and templates hold it in theirs.
        detail = "active; it does not affect the service" if restricted != "0" else "off"
        yield Check("AppArmor's bound on namespaces", ok=True, detail=detail, required=False)


def _sysctl(name: str) -> str | None:
    try:
        return (PROC / "sys" / name).read_text().strip()
    except OSError:
        return None


def _disk(place: StatePlace) -> Check:
    folder = place.state_dir
    while not folder.exists():
        folder = folder.parent
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    built = (place.images / "python.json").exists()
    return Check(
        "disk",
        built or free_mb >= FREE_DISK_MB,
        f"{free_mb} MB free at {folder}",
        f"the images need {FREE_DISK_MB} MB",
    )


def _loads(module: str) -> bool:
    return shutil.which("modprobe") is not None and (
        subprocess.run(["modprobe", "-n", "-q", module], capture_output=True, check=False).returncode == 0
    )


def _in_child(attempt: Callable[[], int]) -> bool:
    """Return whether a system call that would change this process succeeds in a child process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if attempt() == 0 else 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0

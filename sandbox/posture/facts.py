"""Read the host kernel's facts of a sandbox's processes, in terms that are equal for all sandboxes of a kind.

Read from /proc of the host, where no program of a sandbox can forge it; see proc(5) and the pages it names. Numbers
that belong to one sandbox (uids of its slot, sizes of its language) are replaced by what they stand for.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sandbox.engines import EngineError
from sandbox.engines.confinement import BASE_ENV, RUN_UID
from sandbox.engines.pid1_status import CAPABILITY_SETS, ProcessView
from sandbox.languages import Language
from sandbox.posture.cgroup import bounds_in_force
from sandbox.posture.mounts import read_mounts

#: Layer by layer, fact by fact: what a posture file holds as JSON.
Facts = dict[str, dict[str, Any]]

PROC = Path("/proc")
NAMESPACES = ("pid", "mnt", "net", "ipc", "uts", "cgroup")
#: Tunnels that lie in every network namespace once the host has loaded their module: down, and leading nowhere.
FALLBACK_DEVICES = frozenset(
    "tunl0 gre0 gretap0 erspan0 ip_vti0 ip6_vti0 sit0 ip6tnl0 ip6gre0 ip6gretap0 ip6erspan0".split()  # noqa: SIM905
)
#: As /proc/PID/limits names them.
LIMITS = {
    "NOFILE": "Max open files",
    "CORE": "Max core file size",
    "FSIZE": "Max file size",
    "SIGPENDING": "Max pending signals",
    "MSGQUEUE": "Max msgqueue size",
    "MEMLOCK": "Max locked memory",
}
SYS_LANDLOCK_CREATE_RULESET, LANDLOCK_CREATE_RULESET_VERSION = 444, 1


def read_facts(subject: ProcessView, language: Language) -> Facts:
    """Return the facts of a sandbox whose agent is ready and that has run nothing. Raises EngineError."""
    try:
        return _facts(subject, language)
    except (OSError, ValueError, IndexError, KeyError) as e:
        raise EngineError(f"a canary cannot be measured: {type(e).__name__}: {e}") from e


def _facts(subject: ProcessView, language: Language) -> Facts:
    # Under gVisor PID 1 is the kernel that answers the program; what its helpers have differs between releases.
    judged = subject.processes if subject.uid is not None else (subject.pid,)
    status = {pid: _status(pid) for pid in subject.processes}
    facts: Facts = {
        "user_namespace": _user_namespace(subject, judged),
        "identity": {
            name.lower(): _same(_ids(status[pid][name], subject) for pid in judged)
            for name in ("Uid", "Gid", "Groups")
        },
        "capabilities": {
            name: _same(named_capabilities(int(status[pid][name], 16)) for pid in judged)
            for name in CAPABILITY_SETS
        },
        "no_new_privileges": {"NoNewPrivs": _same(one["NoNewPrivs"] for one in status.values())},
        "seccomp": {
            "Seccomp": _same(one["Seccomp"] for one in status.values()),
            # Reported by Linux 5.9 and newer.
            "filters": min(int(one.get("Seccomp_filters", one["Seccomp"] != "0")) for one in status.values()),
        },
        "apparmor": {"label": _same(_label(pid) for pid in subject.processes)},
        "namespaces": {name: _same(_whose(pid, name) for pid in judged) for name in NAMESPACES},
        "cgroup": _cgroup(subject, language),
        "network": {"devices": _devices(subject.pid), "routes": _routes(subject.pid)},
    }
    if subject.uid is not None:  # under gVisor no process of the host's shows the program's
        facts |= read_mounts(subject)
        facts |= {
            "rlimits": {name: max(_limit(pid, words) for pid in judged) for name, words in LIMITS.items()},
            "oom": {"oom_score_adj": min(int(_read(pid, "oom_score_adj")) for pid in judged)},
            "descriptors": _descriptors(subject),
            "environment": _environment(subject.pid, language),
        }
    return facts | {"landlock": {"abi_of_the_kernel": landlock_abi()}}


def _read(pid: int, name: str) -> str:
    return (PROC / str(pid) / name).read_text(errors="replace")


def _status(pid: int) -> dict[str, str]:
    pairs = (line.partition(":") for line in _read(pid, "status").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _same(values: Iterable[str]) -> str:
    """Return the value that all processes share; if they differ, all values."""
    distinct = sorted(set(values))
    return distinct[0] if len(distinct) == 1 else " | ".join(distinct)


def _ids(text: str, subject: ProcessView) -> str:
    return " ".join(sorted({named_uid(int(number), subject) for number in text.split()}))


def named_uid(uid: int, subject: ProcessView) -> str:
    """Return a host uid as its distance from the slot's first, if it is in the slot."""
    if subject.uid is not None and 0 <= (distance := uid - (subject.uid - RUN_UID)) < 2**16:
        return f"slot+{distance}"
    return str(uid)


def named_capabilities(bits: int) -> str:
    """Return a capability set as numbers; a kernel's full set differs between releases."""
    last = int((PROC / "sys/kernel/cap_last_cap").read_text())
    if bits == 2 ** (last + 1) - 1:
        return "all"
    return " ".join(str(number) for number in range(64) if bits >> number & 1) or "none"


def _user_namespace(subject: ProcessView, judged: tuple[int, ...]) -> dict[str, Any]:
    maps = {}
    for name in ("uid_map", "gid_map"):
        lines = [line.split() for line in _read(subject.pid, name).splitlines()]
        maps[name] = ", ".join(f"{inside} {named_uid(int(out), subject)} {size}" for inside, out, size in lines)
    return {"namespace": _same(_whose(pid, "user") for pid in judged), **maps}


def _whose(pid: int, kind: str) -> str:
    """Return `own` for a namespace that neither the service nor, where it may be seen, the host's PID 1 is in."""
    theirs = os.readlink(PROC / str(pid) / "ns" / kind)
    ours = set()
    for other in ("self", str(os.getppid()), "1"):
        with contextlib.suppress(OSError):  # a worker with fewer capabilities than PID 1 may not look at that one
            ours.add(os.readlink(PROC / other / "ns" / kind))
    return "host" if theirs in ours else "own"


def _label(pid: int) -> str:
    """Return the AppArmor label; `none` if the kernel has no such module, or another module answers here."""
    for name in ("attr/apparmor/current", "attr/current"):
        try:
            return _read(pid, name).strip("\0\n ") or "none"
        except OSError:
            continue
    return "none"


def _cgroup(subject: ProcessView, language: Language) -> dict[str, Any]:
    found = bounds_in_force(subject.pid)
    pids = found.pids - language.pids_default if found.pids is not None else None
    return {
        "memory_mb": found.memory_bytes // 2**20 if found.memory_bytes is not None else "unbounded",
        "swap": "none" if found.swapless else "possible",
        "cpus": found.cpus if found.cpus is not None else "unbounded",
        "pids": f"the language's + {pids}" if pids is not None else "unbounded",
    }


def _limit(pid: int, words: str) -> int:
    """Return the hard limit of a resource; unlimited is larger than any number here."""
    line = next(line for line in _read(pid, "limits").splitlines() if line.startswith(words))
    hard = line[len(words) :].split()[1]
    return 2**63 if hard == "unlimited" else int(hard)


def _devices(pid: int) -> list[str]:
    lines = _read(pid, "net/dev").splitlines()[2:]
    return sorted({line.partition(":")[0].strip() for line in lines} - FALLBACK_DEVICES)


def _routes(pid: int) -> int:
    return len(_read(pid, "net/route").splitlines()[1:])


def _descriptors(subject: ProcessView) -> dict[str, Any]:
    """Count files of other file systems than the sandbox's own, and streams that lead out: there is one."""
    files = 0
    sockets: set[str] = set()
    for pid in subject.processes:
        mounts = {line.split(" ", 1)[0] for line in _read(pid, "mountinfo").splitlines()}
        for number in os.listdir(PROC / str(pid) / "fd"):
            try:
                leads_to = os.readlink(PROC / str(pid) / "fd" / number)
                about = _read(pid, f"fdinfo/{number}")
            except FileNotFoundError:  # closed since
                continue
            files += _is_of_the_host(leads_to, about, mounts)
            if leads_to.startswith("socket:") and pid == subject.pid:
                sockets.add(leads_to)
    return {"files_of_the_host": files, "sockets_of_pid_1": len(sockets)}


def _is_of_the_host(leads_to: str, about: str, mounts: set[str]) -> bool:
    if not leads_to.startswith("/") or leads_to.startswith("/memfd:"):  # a pipe, a socket, an event: no file
        return False
    mount = next((line.split()[1] for line in about.splitlines() if line.startswith("mnt_id:")), "")
    return mount not in mounts


def _environment(pid: int, language: Language) -> dict[str, Any]:
    pairs = (entry.partition("=") for entry in _read(pid, "environ").split("\0") if entry)
    found = {name: value for name, _, value in pairs}
    known = {**BASE_ENV, **language.env}
    return {
        "as_documented": all(found.get(name) == value for name, value in known.items()),
        "beyond": sorted(set(found) - set(known)),
    }


def landlock_abi() -> int:
    """Return the version of this kernel's Landlock ABI, 0 without it; see landlock_create_ruleset(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    return max(0, int(version))

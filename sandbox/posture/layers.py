"""The layers of confinement: the facts of each, whether it is required, and the remedy if it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: `kernel`: required wherever the kernel has it. `no`: reported, never required.
Need = Literal["yes", "kernel", "no"]


@dataclass(frozen=True, slots=True)
class Layer:
    """`name` is its key in the posture files; `relaxable` is what DISABLE_SANDBOX_SECURITY=1 takes away."""

    name: str
    says: str
    mend: str
    need: Need = "yes"
    relaxable: bool = False


RUNTIME = "install the runtime of your distribution (crun 1.8, runc 1.1, Docker 20.10 or newer)"
LAYERS = (
    Layer(
        "user_namespace",
        "uids of its own, none of them the host's root",
        "sysctl user.max_user_namespaces=65536 kernel.unprivileged_userns_clone=1, and " + RUNTIME,
    ),
    Layer(
        "identity",
        "the slot's uid and gid, no further groups; under gVisor nobody's",
        RUNTIME + "; a current runsc of a Docker daemon's with --directfs=false in its runtimeArgs",
    ),
    Layer("capabilities", "none, in all five sets", RUNTIME),
    Layer("no_new_privileges", "no program gains any", RUNTIME, relaxable=True),
    Layer(
        "seccomp",
        "the allow-list of system calls",
        "a kernel with CONFIG_SECCOMP_FILTER, and a runtime built with seccomp (crun --version shows +SECCOMP); "
        "look at SECCOMP_PROFILE",
        relaxable=True,
    ),
    Layer(
        "apparmor",
        "the profile, enforced",
        "apt-get install apparmor, apparmor_parser -r -W apparmor/runyard-sandbox on the host; or APPARMOR_PROFILE",
        need="kernel",
        relaxable=True,
    ),
    Layer(
        "namespaces", "pid, mount, network, ipc, uts, cgroup of its own", "a kernel with all of them; " + RUNTIME
    ),
    Layer("root", "read-only, an overlay of its own", "modprobe overlay; " + RUNTIME),
    Layer("mounts", "these and no others, with these flags and sizes", RUNTIME),
    Layer("build_directory", "a bounded place for what is compiled", RUNTIME),
    Layer("masked", "files with facts of the host are covered", RUNTIME),
    Layer("read_only", "the kernel's control files", RUNTIME),
    Layer("cgroup", "memory without swap, processors, processes", "mount the controllers memory, cpu and pids"),
    Layer("rlimits", "descriptors, file size, signals, core", "start the service with hard limits no lower"),
    Layer("network", "loopback alone, no route", "a kernel with network namespaces; " + RUNTIME),
    Layer("oom", "killed before anything of the host's", RUNTIME),
    Layer("descriptors", "nothing of the host's is open", RUNTIME),
    Layer("environment", "what is documented and nothing else", RUNTIME),
    Layer("landlock", "paths a program may use, by its own agent", "Linux 5.19 or newer, lsm=landlock", need="no"),
)
BY_NAME = {layer.name: layer for layer in LAYERS}

"""Advice for an operator about the error of an engine or a runtime that could not make a sandbox."""

from __future__ import annotations

import re

NAMESPACES = (
    "sysctl user.max_user_namespaces=65536 kernel.unprivileged_userns_clone=1; in a container, run it with "
    "CAP_SYS_ADMIN"
)
#: A pattern of the words, and what to do; the first that matches is given.
REMEDIES: tuple[tuple[str, str], ...] = (
    ("affinity", "give the worker CAP_SYS_NICE: it is in its unit; a container needs --cap-add SYS_NICE"),
    ("apparmor", "make sure that apparmor_parser is installed and restart the service, which loads its profiles"),
    # Shortages come first, because their message may also contain a path that matches below.
    ("Too many open files", "raise LimitNOFILE of the worker, or sysctl fs.file-max"),
    ("Cannot allocate memory|ENOMEM", "free memory, or lower MAX_RUNS and WARM_POOL"),
    # "No space left" is also the error for too many namespaces or control groups: a full disk comes after these.
    ("user namespace|CLONE_NEWUSER|uid_map|unshare", NAMESPACES),
    (
        "cgroup|control group|memory\\.|pids\\.",
        "mount the controllers memory, cpu and pids; make doctor lists them",
    ),
    ("No space left", "free space in STATE_DIR and in /run"),
    ("overlay", "modprobe overlay; the kernel needs CONFIG_OVERLAY_FS"),
    ("seccomp|errno 524|ENOTSUPP", "look at SECCOMP_PROFILE and sysctl net.core.bpf_jit_limit"),
    ("temporarily unavailable", "free memory, or lower MAX_RUNS and WARM_POOL"),
    ("not installed", "install the runtime: apt-get install crun"),
    ("did not get ready", "see whether the machine is under load; else make images REFRESH=1"),
)
DEFAULT = "make doctor shows what this machine lacks"


def remedy_for(words: str) -> str:
    """Return the remedy for an engine's error message, in one sentence."""
    found = next((advice for pattern, advice in REMEDIES if re.search(pattern, words, re.IGNORECASE)), None)
    return found or DEFAULT

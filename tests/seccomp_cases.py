# ruff: noqa: SIM905  # words are easier to read than lines of quotes
"""What a program must get of the system call filter and what not, as data: said here, not read from the profile."""

from __future__ import annotations

import errno
from typing import Any

CLONE_NAMESPACES = {
    "CLONE_NEWNS": 0x0002_0000,
    "CLONE_NEWCGROUP": 0x0200_0000,
    "CLONE_NEWUTS": 0x0400_0000,
    "CLONE_NEWIPC": 0x0800_0000,
    "CLONE_NEWUSER": 0x1000_0000,
    "CLONE_NEWPID": 0x2000_0000,
    "CLONE_NEWNET": 0x4000_0000,
}
S_IFIFO, S_IFCHR, S_IFBLK, S_IFREG, S_IFSOCK = 0x1000, 0x2000, 0x6000, 0x8000, 0xC000
AT_FDCWD = 0xFFFF_FF9C
PTHREAD_FLAGS = 0x3D_0F00

#: (call, arguments): what ordinary programs stand on.
GIVEN: list[tuple[str, tuple[int, ...]]] = [
    ("clone", (0x0120_0011,)),  # fork, as glibc makes it
    ("clone", (PTHREAD_FLAGS,)),
    ("clone", (0x4111,)),  # posix_spawn: CLONE_VM | CLONE_VFORK | SIGCHLD
    *((name, ()) for name in ("fork", "vfork", "execve", "execveat", "wait4", "exit_group", "futex", "mmap")),
    *(("socket", (family, kind)) for family in (1, 2, 10) for kind in (1, 2, 0x80801)),
    ("socketpair", (1, 1)),
    ("mknod", (0, S_IFIFO | 0o644)),
    ("mknodat", (AT_FDCWD, 0, S_IFIFO | 0o600)),
    ("personality", (0xFFFF_FFFF,)),
    ("personality", (0,)),
    *((name, ()) for name in ("memfd_create", "inotify_init1", "eventfd2", "epoll_create1", "timerfd_create")),
    *(
        (name, ())
        for name in ("openat2", "statx", "getrandom", "rseq", "membarrier", "renameat2", "copy_file_range")
    ),
    # They only ever restrict.
    *((name, ()) for name in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")),
]

#: (call, arguments, errno): what leads beyond a sandbox, or is nothing a program has business with.
REFUSED: list[tuple[str, tuple[int, ...], int]] = [
    *(
        (name, (), errno.EPERM)
        for name in (
            "mount umount2 pivot_root chroot setns unshare fsopen fsmount fsconfig fspick move_mount open_tree "
            "mount_setattr ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd add_key "
            "request_key keyctl bpf perf_event_open userfaultfd open_by_handle_at name_to_handle_at init_module "
            "finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl syslog iopl "
            "ioperm modify_ldt sethostname setdomainname settimeofday clock_settime adjtimex setgroups capset "
            "fanotify_init fanotify_mark sync syncfs mbind move_pages migrate_pages set_mempolicy vhangup"
        ).split()
    ),
    # With no such call threads are made by clone, whose flags can be looked at.
    *(
        (name, (), errno.ENOSYS)
        for name in (
            "clone3 io_uring_setup io_uring_enter io_uring_register memfd_secret seccomp shmget shmat msgget semget "
            "mq_open io_setup remap_file_pages process_mrelease"
        ).split()
    ),
    *((name, (), errno.EINVAL) for name in ("splice", "tee", "vmsplice")),
    *((name, (), errno.EOPNOTSUPP) for name in ("setxattr", "lsetxattr", "fsetxattr", "removexattr")),
    *(
        ("socket", (family, 3), errno.ENOSYS)
        for family in (0, 3, 4, 5, 9, 15, 16, 17, 21, 26, 29, 31, 36, 38, 40, 41, 43, 44, 45)
    ),
    # vsock, netlink and packet behind high bits, which the kernel cuts off.
    *(("socket", (1 << 32 | family, 2), errno.ENOSYS) for family in (1, 2, 10, 16, 17, 38, 40)),
    ("socket", (1 << 63 | 2, 2), errno.ENOSYS),
    *(("socketpair", (family, 2), errno.ENOSYS) for family in (2, 10, 16, 40)),
    *(("clone", (flag | 0x11,), errno.ENOSYS) for flag in CLONE_NAMESPACES.values()),
    *(("mknod", (0, kind | 0o600), errno.ENOSYS) for kind in (S_IFCHR, S_IFBLK)),
    *(("mknodat", (AT_FDCWD, 0, kind | 0o600), errno.ENOSYS) for kind in (S_IFCHR, S_IFBLK)),
    *(("personality", (bits,), errno.ENOSYS) for bits in (0x8, 0x40_0000, 0x10_0000, 0x8000_0000)),
]


def flipped(profile: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    """For every rule that compares arguments: arguments that keep it, and those with each one bit turned."""
    cases: set[tuple[str, tuple[int, ...]]] = set()
    for rule in profile["syscalls"]:
        compared = rule.get("args") or []
        if not compared:
            continue
        kept = [0] * 6
        for a in compared:
            kept[a["index"]] = a["value"] if a["op"] == "SCMP_CMP_EQ" else a["valueTwo"]
        for name in rule["names"]:
            cases.add((name, tuple(kept)))
            for a in compared:
                for bit in range(64):
                    turned = list(kept)
                    turned[a["index"]] ^= 1 << bit
                    cases.add((name, tuple(turned)))
    return sorted(cases)

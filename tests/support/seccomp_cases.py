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
SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6 = 1, 0, 6, 17, 41
#: An int that was passed through a register with anything in its upper half: the kernel cuts that off.
UPPER = 0xDEAD_BEEF << 32

#: (call, arguments): what ordinary programs stand on.
GIVEN: list[tuple[str, tuple[int, ...]]] = [
    ("clone", (0x0120_0011,)),  # fork, as glibc makes it
    ("clone", (PTHREAD_FLAGS,)),
    ("clone", (0x4111,)),  # posix_spawn: CLONE_VM | CLONE_VFORK | SIGCHLD
    *((name, ()) for name in ("fork", "vfork", "execve", "execveat", "wait4", "exit_group", "futex", "mmap")),
    *(("socket", (family, kind)) for family in (1, 2, 10) for kind in (1, 2, 0x80801)),
    *(("socket", (family, kind, protocol)) for family in (2, 10) for kind, protocol in ((1, 6), (2, 17))),
    ("socket", (2, 1, UPPER | 6)),
    *(("mmap", (0, 4096, 3, flags, -1, 0)) for flags in (0x02, 0x01, 0x22, 0x4022, 0x20022, 0x100022)),
    *(("memfd_create", (0, flags)) for flags in (0, 1, 3, 8, 16)),
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
    # Options that libraries set: reuse, buffers, keep-alive, time-outs; no delay, a user's time-out; type of service,
    # what a datagram tells; one family alone.
    *(("setsockopt", (3, SOL_SOCKET, option)) for option in (2, 6, 7, 8, 9, 13, 15, 16, 18, 20, 21, 66, 67)),
    *(("setsockopt", (3, IPPROTO_TCP, option)) for option in (1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 18, 23, 25)),
    *(("setsockopt", (3, IPPROTO_IP, option)) for option in (1, 2, 8, 10, 11, 13, 24, 32, 33, 34, 49)),
    *(("setsockopt", (3, IPPROTO_IPV6, option)) for option in (16, 17, 18, 19, 23, 25, 26, 29, 49, 66, 67)),
    *(("setsockopt", (3, IPPROTO_UDP, option)) for option in (1, 103)),
    ("setsockopt", (3, UPPER | SOL_SOCKET, UPPER | 2)),
    *(
        ("getsockopt", (3, level, option))
        for level in (SOL_SOCKET, IPPROTO_TCP)
        for option in (1, 3, 4, 11, 17, 26)
    ),
    *(("prctl", (option,)) for option in (1, 2, 3, 4, 15, 16, 21, 23, 29, 36, 38, 39, 0x53564D41, UPPER | 15)),
    *(("fcntl", (3, command)) for command in (*range(10), 1030, 1031, 1032, 1033, 1034, UPPER | 6)),
    # Terminals, FIONREAD, FIONBIO, FIOCLEX, and what is asked of an interface without the lock of all networks.
    *(("ioctl", (3, request)) for request in (0x5401, 0x5413, 0x5414, 0x541B, 0x5421, 0x5451, 0x8004_5430)),
    *(
        ("ioctl", (3, request))
        for request in (0x540E, 0x540F, 0x5422, 0x5425, 0x5429, 0x802C_542A, 0x4004_5431, 0x5441)
    ),
    # Of other files: flags, extents, clones; of namespaces and random numbers.
    *(("ioctl", (3, request)) for request in (0x8008_6601, 0xC020_660B, 0x4004_9409, 0xB701, 0x8004_5200)),
    *(("ioctl", (3, request)) for request in (0x8905, 0x8910, 0x8913, 0x8933, UPPER | 0x5401)),
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
    # Protocols for which the host's kernel looks for a module, or that have settings and workers of their own.
    *(
        ("socket", (family, kind, high | protocol), errno.ENOSYS)
        for family in (2, 10)
        for kind in (1, 2, 3)
        for protocol in (1, 2, 33, 58, 132, 136, 143, 255, 262)
        for high in (0, UPPER)
    ),
    # Line disciplines are modules too.
    *(("ioctl", (3, request), errno.ENOSYS) for request in (0x5423, UPPER | 0x5423)),
    # Huge pages are one pool of the machine, which no control group of memory counts.
    *(("mmap", (0, 4096, 3, high | 0x4_0022, -1, 0), errno.ENOSYS) for high in (0, UPPER, 21 << 26)),
    *(("memfd_create", (0, high | 4), errno.ENOSYS) for high in (0, UPPER, 21 << 26)),
    *(("clone", (flag | 0x11,), errno.ENOSYS) for flag in CLONE_NAMESPACES.values()),
    *(("mknod", (0, kind | 0o600), errno.ENOSYS) for kind in (S_IFCHR, S_IFBLK)),
    *(("mknodat", (AT_FDCWD, 0, kind | 0o600), errno.ENOSYS) for kind in (S_IFCHR, S_IFBLK)),
    *(("personality", (bits,), errno.ENOSYS) for bits in (0x8, 0x40_0000, 0x10_0000, 0x8000_0000)),
    # Programs for a socket: each takes memory of one limit for the machine, which every sandbox's own filter needs.
    *(
        ("setsockopt", (3, high | SOL_SOCKET, high | option), errno.ENOSYS)
        for option in (26, 27, 44, 50, 51, 52)
        for high in (0, UPPER)
    ),
    # Time stamps and encapsulation change a kernel's code when the first socket asks for them.
    *(("setsockopt", (3, SOL_SOCKET, option), errno.ENOSYS) for option in (29, 35, 37, 60, 61, 63, 64, 65)),
    *(("setsockopt", (3, IPPROTO_UDP, option), errno.ENOSYS) for option in (100, 104)),
    *(("setsockopt", (3, IPPROTO_TCP, option), errno.ENOSYS) for option in (14, 31, 38)),
    # Memberships, and what else is done or asked under the one lock of all network namespaces.
    *(
        ("setsockopt", (3, level, option), errno.ENOSYS)
        for level in (IPPROTO_IP, IPPROTO_IPV6, UPPER | IPPROTO_IP)
        for option in (35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47)
    ),
    *(
        ("setsockopt", (3, IPPROTO_IPV6, option), errno.ENOSYS)
        for option in (1, 20, 21, 22, 27, 28, 32, 54, 57, 59)
    ),
    *(
        ("getsockopt", (3, level, option), errno.ENOSYS)
        for level in (IPPROTO_IP, IPPROTO_IPV6, UPPER | IPPROTO_IP)
        for option in (41, 48, UPPER | 48)
    ),
    *(
        ("ioctl", (3, request), errno.ENOSYS)
        for request in (
            0x8906,
            0x8907,
            0x890B,
            0x8912,
            0x8914,
            0x8915,
            0x8916,
            0x8946,
            0x8954,
            0x8B01,
            UPPER | 0x8912,
        )
    ),
    # A filter of one's own is such a program too.
    *(("prctl", (option,), errno.ENOSYS) for option in (22, UPPER | 22, 62, 67, 0x59616D61)),
    # Locks of an open file belong to no process, so that nobody could be held to account for them.
    *(("fcntl", (3, command), errno.ENOSYS) for command in (36, 37, 38, 1024, 1026, UPPER | 37)),
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

"""Linux calls that Python 3.11 has no name for. Each raises OSError with the call's name."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_KEEPCAPS = 8
PR_SET_CHILD_SUBREAPER = 36
CAP_SYS_ADMIN = 21
SYS_CAPSET, CAPABILITY_VERSION_3 = 126, 0x2008_0522
# x86-64 numbers of the mount API of Linux 5.2, see fsopen(2), fsconfig(2), fsmount(2) and fspick(2).
SYS_FSOPEN = 430
SYS_FSCONFIG = 431
SYS_FSMOUNT = 432
SYS_FSPICK = 433
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSPICK_NO_AUTOMOUNT = 4
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_STRING_BYTES = 255
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Move this process into new namespaces, see unshare(2)."""
    _checked("unshare", _libc.unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount a file system, see mount(2)."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _checked(f"mount {kind or ''} on {target}", result)


def unmount(target: str) -> None:
    """Detach a mount at once; what still uses it keeps it until it ends. See umount2(2)."""
    _checked(f"umount {target}", _libc.umount2(target.encode(), MNT_DETACH))


def opened_path(fd: int) -> str:
    """Return this process's path to an open file, which does not reveal its location."""
    return f"/proc/self/fd/{fd}"


def detached_overlay(layers: Iterable[int]) -> int:
    """Return a descriptor of an unmounted read-only overlay of these directories (descriptors, topmost first); the
    overlay ends with it.

    To mount it somewhere and to unmount it again would have the kernel wait for all its processors. And the
    mount table does not show the paths of the layers. Before Linux 6.8 the kernel refuses more than about a dozen
    of them.
    """
    paths = [opened_path(fd).encode() for fd in layers]
    lower = b":".join(paths)
    made = _checked("fsopen", _libc.syscall(SYS_FSOPEN, b"overlay", FSOPEN_CLOEXEC))
    try:
        _configure(made, FSCONFIG_SET_STRING, b"source", b"overlay")  # as mount(2) would have it listed
        if len(lower) <= FSCONFIG_STRING_BYTES:
            _configure(made, FSCONFIG_SET_STRING, b"lowerdir", lower)
        else:
            for path in paths:
                _configure(made, FSCONFIG_SET_STRING, b"lowerdir+", path)
        _configure(made, FSCONFIG_SET_FLAG, b"ro", None)
        _configure(made, FSCONFIG_CMD_CREATE, None, None)
        return _checked(
            "fsmount", _libc.syscall(SYS_FSMOUNT, made, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
        )
    finally:
        os.close(made)


def has_overlay() -> bool:
    """Return whether the kernel has the overlay file system; it loads the module if there is one."""
    made = _libc.syscall(SYS_FSOPEN, b"overlay", FSOPEN_CLOEXEC)
    if made >= 0:
        os.close(made)
    return bool(made >= 0)


def timer() -> int:
    """Return a descriptor that is readable (8 bytes) each time the timer expires, see timerfd_create(2)."""
    return _checked("timerfd_create", _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC))


def set_timer(fd: int, seconds: float) -> None:
    """Arm a timer for one expiry after `seconds`."""
    whole, rest = divmod(max(1, round(seconds * 1e9)), 1_000_000_000)
    spec = (ctypes.c_long * 4)(0, 0, whole, rest)  # no interval, and the time
    _checked("timerfd_settime", _libc.timerfd_settime(fd, 0, spec, None))


def become_user(uid: int) -> None:
    """Change every uid and gid of this process to `uid`, without further groups; keep CAP_SYS_ADMIN alone.

    The capability is for what a kernel lets no unprivileged user do, as making a user namespace on Ubuntu; by its
    ids the process is that user's, and so is what it makes. See PR_SET_KEEPCAPS(2const).
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    _checked("prctl", _libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setresuid(uid, uid, uid)
    set_capabilities(1 << CAP_SYS_ADMIN)


def set_capabilities(kept: int) -> None:
    """Make a bit mask this thread's effective and permitted capabilities, and none inheritable; see capset(2)."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFF_FFFF, kept >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)  # effective, permitted, inheritable
    _checked("capset", _libc.syscall(SYS_CAPSET, header, data))


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, see PR_SET_CHILD_SUBREAPER(2const)."""
    _checked("prctl", _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def private_mounts() -> None:
    """Create a mount namespace for this process: its mounts are seen nowhere else and end with it."""
    unshare(CLONE_NEWNS)
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def resize_tmpfs(path: str, size_bytes: int, inodes: int) -> None:
    """Set the size of a mounted tmpfs, also one in another mount namespace reached by a /proc path."""
    values = ((b"size", b"%d" % size_bytes), (b"nr_inodes", b"%d" % inodes))
    _reconfigure(path, *((FSCONFIG_SET_STRING, key, value) for key, value in values))


def make_read_only(path: str) -> None:
    """Let nothing more be written to a mounted file system, however it is reached. EBUSY while a file is open."""
    _reconfigure(path, (FSCONFIG_SET_FLAG, b"ro", None))


def bound_terminals(path: str, options: Iterable[str]) -> None:
    """Set all options of a mounted devpts, as `NAME=VALUE`: each omitted one gets its default."""
    pairs = (option.encode().partition(b"=") for option in options)
    _reconfigure(path, *((FSCONFIG_SET_STRING, name, value) for name, _, value in pairs))


def _reconfigure(path: str, *settings: tuple[int, bytes, bytes | None]) -> None:
    fd = _checked("fspick", _libc.syscall(SYS_FSPICK, AT_FDCWD, path.encode(), FSPICK_NO_AUTOMOUNT))
    try:
        for command, key, value in settings:
            _configure(fd, command, key, value)
        _configure(fd, FSCONFIG_CMD_RECONFIGURE, None, None)
    finally:
        os.close(fd)


def _configure(fd: int, command: int, key: bytes | None, value: bytes | None) -> None:
    _checked("fsconfig", _libc.syscall(SYS_FSCONFIG, fd, command, key, value, 0))


def malloc_trim() -> None:
    """Return free memory of the heap to the kernel."""
    _libc.malloc_trim(0)

"""Opening files beneath a directory that another account may write, without ever leaving it.

With openat2(2) where the kernel has it and lets us; else one directory at a time with O_NOFOLLOW. Neither
follows a symbolic link anywhere on the way, blocks on a FIFO, or takes a terminal; what is not a regular file
is refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

SYS_OPENAT2 = 437
# Of struct open_how, see openat2(2).
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH

SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_directory(path: str, dir_fd: int) -> int:
    """Return a descriptor of a directory at a relative path; each part is opened in the one before, no links."""
    held = os.dup(dir_fd)
    for part in path.split("/"):
        try:
            below = os.open(_named(part), DIRECTORY, dir_fd=held)
        finally:
            os.close(held)
        held = below
    return held


def open_folder(path: bytes, dir_fd: int) -> int:
    """Return a descriptor of the directory at a relative path, reached without a link. Raises OSError."""
    text = os.fsdecode(path)
    fd = _openat2(text, dir_fd, DIRECTORY)
    return fd if fd is not None else open_directory(text, dir_fd)


def open_file(path: str, dir_fd: int) -> int:
    """Return a descriptor for reading of the regular file at a relative path. Raises OSError.

    ENOENT if it is not there; EINVAL, ELOOP, EXDEV, ENOTDIR or ENXIO if it, or what leads to it, is something else.
    """
    fd = _openat2(path, dir_fd)
    if fd is None:
        fd = open_step_by_step(path, dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return fd


def open_step_by_step(path: str, dir_fd: int) -> int:
    """Open a path part by part, where there is no openat2."""
    folder, slash, name = path.rpartition("/")
    held = open_directory(folder, dir_fd) if slash else os.dup(dir_fd)
    try:
        return os.open(_named(name), os.O_RDONLY | SAFE, dir_fd=held)
    finally:
        os.close(held)


def _named(part: str) -> str:
    """Return a part of a path, checked to lead nowhere but down."""
    if part in {"", ".", ".."}:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return part


def _openat2(path: str, dir_fd: int, flags: int = os.O_RDONLY | SAFE) -> int | None:
    """Call openat2; None where there is none, or a seccomp filter refuses it (with EPERM, as older Docker does)."""
    how = _OpenHow(flags, 0, RESOLVE)
    fd: int = _libc.syscall(SYS_OPENAT2, dir_fd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    # EAGAIN: something was renamed meanwhile, and the kernel cannot guarantee that we stayed beneath.
    if number in {errno.ENOSYS, errno.EPERM, errno.EAGAIN}:
        return None
    raise OSError(number, os.strerror(number))

"""Linux calls that the standard library has no name for, as a template and its children need them.

Only a template imports this: `ctypes` costs milliseconds, once, and a pooled sandbox has no use for any of it.
x86-64 numbers. Each raises OSError with the call's name.
"""

import ctypes
import errno
import os
import struct

CLONE_NEWTIME = 0x0000_0080
CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
SIGCHLD = 17
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND = 32, 4096
MNT_DETACH = 2
AT_FDCWD = -100
SYS_CLONE = 56
SYS_CAPSET = 126
SYS_PIVOT_ROOT = 155
SYS_KEYCTL = 250
SYS_SECCOMP = 317
SYS_MOVE_MOUNT = 429
MOVE_MOUNT_F_EMPTY_PATH = 4
KEYCTL_JOIN_SESSION_KEYRING = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_SET_MODE_FILTER = 1
CAPABILITY_VERSION_3 = 0x2008_0522
INSTRUCTION_BYTES = 8
HIGHEST_CAPABILITY = 63
APPARMOR_LABEL = "/proc/self/attr/apparmor/current"

# PyDLL keeps the interpreter's lock across a call: `clone` returns twice, and must find it held both times.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(name, result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _syscall(name, number, *arguments):
    longs = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    return _checked(name, _libc.syscall(ctypes.c_long(number), *longs))


def clone(flags):
    """Fork into new namespaces, see clone(2): the child's pid, or 0 in the child.

    The C library's fork handlers are not called and it keeps the parent's thread id: the child must hold to what
    a lone thread may do, and fork in the ordinary way before anything else is let run. It does: the program is a
    fork of it.
    """
    return _syscall("clone", SYS_CLONE, flags | SIGCHLD, 0, 0, 0, 0)


def unshare(flags):
    """Move this process into new namespaces, see unshare(2)."""
    _checked("unshare", _libc.unshare(flags))


def mount(source, target, kind, flags, data=None):
    """Mount a file system, see mount(2); all of them bytes or None."""
    # Fifty times for each sandbox: the message is formatted only for an error.
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), data) != 0:
        _checked(f"mount on {target!r}", -1)


def attach(fd, target):
    """Put the detached mount `fd` at a path, see move_mount(2)."""
    _syscall("move_mount", SYS_MOVE_MOUNT, fd, b"", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)


def become_root():
    """Make the mount that is the working directory the root, and unmount everything beneath the old one."""
    _syscall("pivot_root", SYS_PIVOT_ROOT, b".", b".")
    _checked("umount2", _libc.umount2(b".", MNT_DETACH))  # the old root lies on top of the new one


def new_session_keyring():
    """Give this process a session keyring of its own: the template's is shared by its children."""
    _syscall("keyctl", SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, 0)


def forbid_new_privileges():
    """See PR_SET_NO_NEW_PRIVS(2const)."""
    _checked("prctl", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def change_profile(name):
    """Change this process's AppArmor profile for good, and see that it is enforced; see aa_change_profile(2).

    The kernel accepts the change to a profile that only complains, so the label is read back. A profile that
    forbids this reading, as the sandboxes' does, is enforced. The worker reads the label too, from outside.
    """
    with open(APPARMOR_LABEL, "wb", buffering=0) as file:
        file.write(b"changeprofile " + name)
    try:
        with open(APPARMOR_LABEL, "rb") as file:
            label = file.read().strip(b"\n\0")
    except PermissionError:
        return
    if label != name + b" (enforce)":
        raise OSError(errno.EACCES, f"the AppArmor label is {label!r} and must be {name!r} (enforce)")


def shrink_bounding_set():
    """Take every capability out of the bounding set; needs CAP_SETPCAP."""
    for number in range(HIGHEST_CAPABILITY + 1):
        if _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            return  # the kernel knows no more


def drop_capabilities():
    """Clear all capability sets except the bounding set."""
    _checked("prctl", _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    _syscall("capset", SYS_CAPSET, struct.pack("Ii", CAPABILITY_VERSION_3, 0), bytes(24))


def load_filter(program):
    """Load a compiled seccomp filter permanently, see seccomp(2)."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxQ", len(program) // INSTRUCTION_BYTES, ctypes.addressof(code))
    _syscall("seccomp", SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, 0, fprog)


def exit_now(status):
    """Call exit(3) with the interpreter's lock held, so that no Python thread runs during C's own handlers."""
    _libc.exit(status)


def keep_for_ever(thing):
    """Have an object outlive even the interpreter's own end."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))

"""The confinement of a template's child: the steps that a runtime would have made around a sandbox.

It begins in namespaces of its own with every capability in its user namespace, and ends as the run's uid with none,
behind the filter. Each step either holds or raises: a child that cannot finish ends, and no program has run in
it. The host sends the confinement as data (`Walls`), the same from which it configures a runtime.
"""

import _socket
import errno
import fcntl
import os
import resource
import struct

from agent import kernel
from agent.frames import unpack

#: Temporary mount point of the new root in a template's root: any directory is suitable.
LANDING = b"/work"
# Of netdevice(7).
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Walls:
    """Everything about a child that is the same for each: mounts, masks, limits, the filter."""

    __slots__ = (
        "apparmor",
        "cwd",
        "filter",
        "gid",
        "masked_directories",
        "masked_files",
        "mounts",
        "no_new_privileges",
        "oom_score_adj",
        "quotas",
        "read_only",
        "rlimits",
        "uid",
    )

    def __init__(self, payload):
        """`payload` is what `sandbox/engines/oci/templates/confinement.py` packs."""
        (
            uid,
            gid,
            no_new_privileges,
            oom_score_adj,
            mounts,
            masked,
            read_only,
            rlimits,
            quotas,
            self.filter,
            self.cwd,
            self.apparmor,
        ) = unpack(payload)
        self.uid, self.gid, self.no_new_privileges = int(uid), int(gid), no_new_privileges == b"1"
        self.oom_score_adj = oom_score_adj
        self.mounts = [_mount(item) for item in unpack(mounts)]
        paths = unpack(masked)
        self.masked_directories = [path for path in paths if os.path.isdir(b"/" + path)]
        self.masked_files = [path for path in paths if path not in self.masked_directories]
        self.read_only = unpack(read_only)
        self.rlimits = [(int(kind), int(bound)) for kind, bound in map(unpack, unpack(rlimits))]
        self.quotas = [tuple(unpack(item)) for item in unpack(quotas)]


def _mount(item):
    """Make one mount, its path relative to the root: (source, target, kind or None for a bind, flags, data)."""
    source, target, kind, flags, data = unpack(item)
    return source, target, kind or None, int(flags), data or None


def confine(walls, root):
    """Become a sandbox on the detached mount `root`, a descriptor, which is closed."""
    kernel.unshare(kernel.CLONE_NEWCGROUP)  # in its own control group by now, so that this is what it sees
    _leave_time_namespace()
    os.setsid()
    # While this process's own files are its own: with the change of ids below they become the kernel's.
    _write(b"/proc/self/oom_score_adj", walls.oom_score_adj)
    # Root of its own namespace: until now of no id that it knows, and so would be what it mounts.
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    kernel.attach(root, LANDING)
    os.close(root)
    os.chdir(LANDING)
    _setup_mounts(walls)
    kernel.become_root()
    os.chdir(walls.cwd)
    _raise_loopback()
    for kind, bound in walls.rlimits:
        resource.setrlimit(kind, (bound, bound))
    kernel.shrink_bounding_set()
    os.setresgid(walls.gid, walls.gid, walls.gid)
    os.setresuid(walls.uid, walls.uid, walls.uid)
    kernel.new_session_keyring()
    if walls.apparmor:
        # Before the next line: under no_new_privs a confined process may only change to a subset of its profile.
        kernel.change_profile(walls.apparmor)
    if walls.no_new_privileges:
        kernel.forbid_new_privileges()
    kernel.drop_capabilities()
    if walls.filter:
        kernel.load_filter(walls.filter)


def _leave_time_namespace():
    """Have the program in a time namespace of its own: locks on the name of a shared one are a channel."""
    try:
        kernel.unshare(kernel.CLONE_NEWTIME)
    except OSError as e:
        if e.errno != errno.EINVAL:  # a kernel without them
            raise


def _setup_mounts(walls):
    """Make the mounts, beneath the working directory. The old /proc must still be there: without one that hides
    nothing the kernel refuses a new one.
    """
    for source, target, kind, flags, data in walls.mounts:
        if kind is not None:
            kernel.mount(source, target, kind, flags, data)
        else:
            _bind(source, target, flags)
    # By the new /proc: the old one keeps a name for each of these in each user namespace that there ever was, and
    # the kernel goes through all of them.
    for name, bound in walls.quotas:
        _write(b"proc/sys/user/" + name, bound)
    for path in walls.masked_files:
        kernel.mount(b"dev/null", path, None, kernel.MS_BIND)
    empty = None
    for path in walls.masked_directories:
        if empty is None:
            kernel.mount(b"tmpfs", path, b"tmpfs", kernel.MS_RDONLY, b"size=0k")
            empty = path
        else:
            kernel.mount(empty, path, None, kernel.MS_BIND)
    for path in walls.read_only:
        _bind(path, path, kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def _bind(source, target, flags):
    """Make a bind mount with flags of its own, which takes two calls."""
    kernel.mount(source, target, None, kernel.MS_BIND)
    kernel.mount(None, target, None, kernel.MS_REMOUNT | kernel.MS_BIND | flags)


def _raise_loopback():
    """Have the network namespace's own interface up, as every runtime does."""
    socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        request = fcntl.ioctl(socket, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", request)[1]
        fcntl.ioctl(socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    finally:
        socket.close()


def _write(path, text):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)

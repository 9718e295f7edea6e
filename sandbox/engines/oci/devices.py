"""The few device nodes of a sandbox, as a layer beneath its own overlay.

A runtime would bind the host's nodes one by one, several calls each, and every sandbox would then share their
inodes: a lock on /dev/null would be seen by the next run. In a layer they cost nothing per sandbox, and each
sandbox's overlay has inodes of its own for them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: name: (major, minor), see Documentation/admin-guide/devices.txt of the kernel.
NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
#: With their modes: runc gives its mounts there the directory's mode and ignores their options.
MOUNT_POINTS = {"pts": 0o755, "shm": 0o1777}


def make_device_layer(place: Path) -> Path:
    """Make the layer in `place`, on a file system that takes device nodes and trusted attributes; its path."""
    layer = place / "devices"
    dev = layer / "dev"
    dev.mkdir(parents=True, mode=0o755)
    layer.chmod(0o755)
    for name, (major, minor) in NODES.items():
        os.mknod(dev / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        (dev / name).chmod(0o666)  # mknod heeds the umask
    for name, target in LINKS.items():
        (dev / name).symlink_to(target)
    for name, mode in MOUNT_POINTS.items():
        (dev / name).mkdir()
        (dev / name).chmod(mode)
    # Nothing of the image's own /dev shows through: it may hold the host's real ptmx.
    os.setxattr(dev, "trusted.overlay.opaque", b"y")
    return layer

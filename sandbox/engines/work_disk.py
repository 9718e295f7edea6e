"""Measure the file system at /work of a sandbox, by the numbers of the host's kernel."""

from __future__ import annotations

import os


class WorkDisk:
    """The mounted file system, held open: its numbers need neither the agent nor a process that may run."""

    def __init__(self, pid: int) -> None:
        """Open that of the sandbox whose PID 1 has this pid on the host. Raises OSError.

        /work is a mount in a read-only root, so no program can put anything else in its place.
        """
        self._fd = os.open(f"/proc/{pid}/root/work", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def used_bytes(self) -> int:
        """Return the bytes that are in use. Raises OSError once it is closed."""
        found = os.statvfs(self._fd)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def close(self) -> None:
        """Let the file system go. Without effect when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

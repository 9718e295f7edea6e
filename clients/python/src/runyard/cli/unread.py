"""Input that was piped into a command which does not read it."""

from __future__ import annotations

import array
import os
import select
import stat
import sys

from runyard.cli.speech import say


class Report:
    """Says once that the bytes on stdin go nowhere: a pipe is not passed to a program unasked.

    Passing it on by itself would take the input of whatever loop or script this command stands in.
    """

    def __init__(self, *, used: bool, quiet: bool) -> None:
        self._done = used or quiet

    def look(self) -> None:
        """Report bytes that wait on stdin now. Never waits for any."""
        if not self._done and _has_bytes():
            self._done = True
            say("stdin is not passed to the program: add --stdin - to pass it, or </dev/null to leave it out")


def _has_bytes() -> bool:
    """Return whether stdin is a file, a pipe or a socket with bytes that nobody has read."""
    try:
        import fcntl  # not on Windows
        import termios

        descriptor = sys.stdin.fileno()
        kind = os.fstat(descriptor)
        if stat.S_ISREG(kind.st_mode):
            return kind.st_size > os.lseek(descriptor, 0, os.SEEK_CUR)
        if not (stat.S_ISFIFO(kind.st_mode) or stat.S_ISSOCK(kind.st_mode)):
            return False
        if not select.select([descriptor], [], [], 0)[0]:
            return False
        waiting = array.array("i", [0])  # 0 at the end of a pipe, which is readable too
        fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
        return waiting[0] > 0
    except (ImportError, AttributeError, OSError, ValueError):
        return False

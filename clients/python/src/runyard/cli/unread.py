"""Input that was piped into a command which does not read it."""

from __future__ import annotations

import array
import os
import select
import stat
import sys

from runyard.cli.speech import say


class Report:
    """Reports once that the bytes on stdin are not read: a pipe is passed to a program only on request.

    To pass it on by default would consume the input of a loop or script around this command.
    """

    def __init__(self, *, used: bool, quiet: bool) -> None:
        self._done = used or quiet

    def look(self) -> None:
        """Report bytes that wait on stdin now. Never waits for any."""
        if not self._done and _has_bytes():
            self._done = True
            say("stdin is not passed to the program: add --stdin - to pass it, or </dev/null to leave it out")


def _has_bytes() -> bool:
    """Return whether stdin is a file, a pipe or a socket with unread bytes."""
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

"""Give a new child of PID 1 the descriptors of its task and no others: the stream must not be reachable from it."""

import _signal
import fcntl
import os

from agent.landlock import landlock
from agent.program import Released

#: The places of a keeper's pipe to PID 1, of Landlock's rules until they are entered, of a kernel's replies.
NOTES_FD, RULES_FD, REPLIES_FD = 3, 4, 5
#: Above all descriptors that are put somewhere, below the limit of open files.
ASIDE = 64
HIGHEST_FD = 1024


def fork_here(become):
    """Fork a child that calls `become`, which does not return. Returns its pid. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        try:
            become()
        except Released:
            raise
        except BaseException:
            os._exit(1)
    return pid


def take_descriptors(streams, notes=-1, replies=-1):
    """Put the task's streams at 0, 1 and 2, a keeper's pipe at NOTES_FD, a kernel's at REPLIES_FD, and close all
    others.
    """
    _signal.set_wakeup_fd(-1)
    aside = [_aside(fd) for fd in (*streams, notes, landlock.children, replies)]
    for target, fd in enumerate(aside):
        if fd >= 0:
            os.dup2(fd, target, inheritable=target < NOTES_FD)
        else:
            os.closerange(target, target + 1)
    if landlock.children >= 0:
        landlock.children = RULES_FD
    os.closerange(REPLIES_FD + 1, HIGHEST_FD)


def _aside(fd):
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ASIDE) if fd >= 0 else -1

"""A mount and pid namespace around the builder: when it ends, however it ends, nothing of it is left."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from ops.images.errors import HostLacks

CLONE_NEWNS = 0x0002_0000
CLONE_NEWPID = 0x2000_0000
PR_SET_PDEATHSIG = 1
STOPPED = 143


def run_isolated(work: Callable[[], int]) -> int:
    """Run `work` in a child that is PID 1 of new namespaces; its exit code, or 143 when it is stopped.

    The caller must have no threads, and start no process afterwards: its children would be created in the pid
    namespace that has ended.
    """
    if os.geteuid() != 0:
        raise HostLacks("building images needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID) != 0:
        raise HostLacks(f"cannot create a mount namespace: {os.strerror(ctypes.get_errno())}")
    child = os.fork()
    if child == 0:
        _be_init(libc, work)
    return _wait(child)


def _be_init(libc: ctypes.CDLL, work: Callable[[], int]) -> NoReturn:
    code = 1
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
        code = work()
    except KeyboardInterrupt:
        code = 130
    finally:
        # The kernel kills all that is left of the namespace with its PID 1.
        os._exit(code)


def _wait(child: int) -> int:
    def stop(_number: int, _frame: FrameType | None) -> None:
        os.kill(child, signal.SIGKILL)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return STOPPED if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)

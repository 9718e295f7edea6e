"""A process beside the worker that lets frozen sandboxes die with it.

A sandbox ends by itself when its worker does, as its agent then reads the end of its stream. A frozen agent reads
nothing. So a small process gets the names of the frozen groups; when the worker is gone, however it ended, it kills
who is in them, and thaws them if the kernel is too old for `cgroup.kill`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from sandbox.engines.cgroups.freezer import GroupFreezer
from sandbox.sessions import watcher

if TYPE_CHECKING:
    from sandbox.engines.cgroups.freezer import Freezer

log = logging.getLogger(__name__)


class FrozenWatch:
    """The worker's end."""

    def __init__(self) -> None:
        """Start the process: a program of its own, so that nothing of the worker is in it."""
        read, write = os.pipe2(os.O_CLOEXEC)
        argv = [sys.executable, "-I", "-S", str(watcher.__file__)]
        self.pid = os.posix_spawn(argv[0], argv, {}, file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)])
        os.close(read)
        self._write = write
        self._lock = threading.Lock()

    def add(self, freezer: Freezer) -> None:
        """Note that a group is about to be frozen."""
        self._tell("+", freezer)

    def remove(self, freezer: Freezer) -> None:
        """Note that a group is thawed, or its processes have exited."""
        self._tell("-", freezer)

    def close(self) -> None:
        """End the process: nothing is frozen any more."""
        with self._lock:
            os.close(self._write)
            self._write = -1

    def _tell(self, sign: str, freezer: Freezer) -> None:
        if not isinstance(freezer, GroupFreezer):
            return  # the daemon's: its containers are removed by the next worker
        with self._lock:
            try:
                os.write(self._write, f"{sign}{freezer.path}\n".encode())
            except OSError as e:
                log.error("nobody watches over frozen sessions: %s", e)  # noqa: TRY400  # the words suffice

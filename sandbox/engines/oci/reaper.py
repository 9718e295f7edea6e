"""Collecting the ends of child processes, all in one place.

As subreaper the worker inherits the orphans of its children: each sandbox's PID 1, and also the helper that
`crun run --detach` forks and does not wait for. Unreaped, the helper would stay a zombie and count in the
sandbox's pids cgroup. So one thread reaps every child, and keeps the status of those that are waited for.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable


@functools.cache
def reaper() -> Reaper:
    """Return the process-wide reaper. Two waitpid(-1) loops would collect each other's children."""
    return Reaper()


class Reaper:
    """Starts processes and knows how they ended. The thread that collects starts with the first of them."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._awaited: dict[int, int | None] = {}
        self._started = False

    def start(self, spawn: Callable[[], int]) -> int:
        """Call `spawn`, which starts a process, and keep that process's status for `wait`; its pid."""
        with self._change:  # held across both, so that an early end is not discarded as an orphan's
            pid = spawn()
            self._awaited[pid] = None
            self._change.notify_all()
            if not self._started:
                self._started = True
                threading.Thread(target=self._collect, name="children", daemon=True).start()
        return pid

    def wait(self, pid: int, timeout_s: float) -> int | None:
        """Return the exit status of a child (negative: the signal); None if it still runs."""
        with self._change:
            self._change.wait_for(lambda: self._awaited[pid] is not None, timeout_s)
            status = self._awaited[pid]
            if status is not None:
                del self._awaited[pid]
            return status

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                with self._change:
                    self._change.wait_for(lambda: None in self._awaited.values())
                continue
            with self._change:
                if pid in self._awaited:
                    self._awaited[pid] = os.waitstatus_to_exitcode(status)
                    self._change.notify_all()

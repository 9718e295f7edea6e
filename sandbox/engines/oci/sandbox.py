"""One sandbox of engine `oci`: its stream, its PID 1, its cgroup, and how to undo all of it."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from protocol.limits import MIB, Limits
from protocol.result import Isolation
from sandbox.engines import EngineError, NotConfined, Stats
from sandbox.engines.build_directory import close_build_directory
from sandbox.engines.cgroups.freezer import Freezer
from sandbox.engines.cgroups.group import Bounds, Group
from sandbox.engines.confinement import bounds_of, tmpfs_rooms
from sandbox.engines.pid1_status import ExpectedStatus, ProcessView, check_posture, process_view
from sandbox.engines.runtime_features import RuntimeFeatures
from sandbox.engines.syscalls import resize_tmpfs
from sandbox.engines.work_disk import WorkDisk
from sandbox.images import Image

log = logging.getLogger(__name__)

#: Killed processes normally exit within milliseconds. After DEATH_PATIENCE_S the wait moves to a thread; after
#: DEATH_TIMEOUT_S it is logged.
DEATH_PATIENCE_S = 0.5
DEATH_TIMEOUT_S = 10.0


class OciSandbox:
    """One sandbox: its stream, its PID 1, its cgroup, and how to undo all of it."""

    def __init__(
        self,
        name: str,
        image: Image,
        facts: Isolation,
        bounds: Bounds,
        stream: socket.socket,
        traits: RuntimeFeatures,
    ) -> None:
        self.id = name
        self.image = image
        self.undo = ExitStack()
        self.group: Group | None = None
        self.stream = stream
        #: The bounds of its cgroup.
        self.bounds = bounds
        self._facts = facts
        self._traits = traits
        #: The expected status of PID 1; None if the host cannot see it (gVisor).
        self.expected: ExpectedStatus | None = None
        #: Called when a required layer is missing: the source of the sandbox stops, and returns whether another
        #: source takes over.
        self.disproved: Callable[[], bool] = lambda: False
        #: Returns whether its template was replaced.
        self.outdated: Callable[[], bool] = lambda: False
        #: Called when its agent did not get ready.
        self.failed: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._pid = 0
        self._pidfd = -1
        self._gone = False

    def attach_pid(self, pid: int) -> None:
        """Note that PID 1 has started as the host's `pid`. Raises EngineError if it has ended again."""
        assert self.group is not None
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError as e:
            raise EngineError("PID 1 ended at once") from e
        self._pid = pid
        if pid not in self.group.pids():  # it ended, and the number is another's by now
            os.close(self._pidfd)
            self._pidfd = -1
            raise EngineError("PID 1 ended at once")

    @property
    def pid(self) -> int:
        """Return the host's pid of the sandbox's PID 1."""
        return self._pid

    def measure(self) -> None:
        """Compare PID 1's status with the expected one; see `Sandbox.measure`."""
        if self.expected is None:
            return
        try:
            check_posture(self._pid, self.expected)
        except NotConfined:
            self.disproved()
            raise

    def process_view(self) -> ProcessView:
        """Return where the host's kernel describes its processes; see `Sandbox.process_view`."""
        assert self.group is not None
        return process_view(self._pid, self.group.pids(), self.expected)

    def report_not_ready(self) -> None:
        """Report that the agent did not become ready; see `Sandbox.report_not_ready`."""
        self.failed()

    def quarantine_source(self) -> bool:
        """Quarantine the source of the sandbox; see `Sandbox.quarantine_source`."""
        return self.disproved()

    def is_outdated(self) -> bool:
        """Return whether its template was replaced; see `Sandbox.is_outdated`."""
        return self.outdated()

    def apply(self, limits: Limits, disk_mb: int | None = None) -> bool:
        """Apply a job's limits and start measuring; see `Sandbox.apply`."""
        assert self.group is not None
        bounds = bounds_of(limits)
        if not self.group.set(self._traits.with_headroom(bounds)):
            return False
        resized = disk_mb is not None or bounds.memory_bytes != self.bounds.memory_bytes
        if resized and self._traits.resizes_tmpfs:
            for path, room in tmpfs_rooms(bounds.memory_bytes, disk_mb).items():
                # No program has run in there yet, so the path cannot be redirected.
                resize_tmpfs(f"/proc/{self._pid}/root{path}", room.size_bytes, room.inodes)
        self.bounds = bounds
        self.group.start_counting()
        return True

    def enter_compile_phase(self, limits: Limits) -> bool:
        """Change the bounds for the compile phase and reset the counters; see `Sandbox.enter_compile_phase`."""
        assert self.group is not None
        bounds = bounds_of(limits)
        if not self.group.set(self._traits.with_headroom(bounds), reclaim=True):
            return False
        self.group.start_counting()
        return True

    def leave_compile_phase(self) -> bool:
        """Close the build directory and go back to the program's own bounds; see `Sandbox.leave_compile_phase`."""
        assert self.group is not None
        close_build_directory(self._pid, self._traits)
        if not self.group.set(self._traits.with_headroom(self.bounds), reclaim=True):
            return False
        self.group.start_counting()
        return True

    def raise_memory_limit(self, reserve_mb: int) -> None:
        """Raise the memory limit after the program's end; see `Sandbox.raise_memory_limit`."""
        assert self.group is not None
        lent = replace(self.bounds, memory_bytes=self.bounds.memory_bytes + reserve_mb * MIB)
        self.group.set(self._traits.with_headroom(lent))

    def stats(self) -> Stats:
        """Return the usage since `apply`."""
        assert self.group is not None
        return self.group.stats()

    def refused_processes(self) -> int | None:
        """Return how often the kernel refused a process or thread; see `Sandbox.refused_processes`."""
        return None if self.group is None else self.group.refused_pids()

    def open_freezer(self) -> Freezer | None:
        """See `Sandbox.open_freezer`."""
        assert self.group is not None
        freezer = self.group.freezer()
        if freezer is not None:
            self.undo.callback(freezer.close)
        return freezer

    def open_work_disk(self) -> WorkDisk | None:
        """See `Sandbox.open_work_disk`."""
        if not self._traits.resizes_tmpfs:  # it is not a mount of the host's kernel
            return None
        disk = WorkDisk(self._pid)
        self.undo.callback(disk.close)
        return disk

    def held_bytes(self) -> int:
        """Return the memory that it holds now."""
        assert self.group is not None
        return self.group.used_bytes()

    def facts(self) -> Isolation:
        """Return the measured confinement."""
        return self._facts

    def kill(self) -> None:
        """Kill PID 1, and with it, by the kernel, everything in its pid namespace."""
        with self._lock:
            if self._pidfd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def destroy(self) -> None:
        """Kill, wait for every process's end, remove cgroup, mount and state.

        If killed processes get no processor to exit, a separate thread waits for them. Until then they keep their
        slot, and other sandboxes are not delayed.
        """
        with self._lock:
            if self._gone:
                return
            self._gone = True
        self.kill()
        self.stream.close()
        if self._pidfd >= 0 and not self._has_ended(DEATH_PATIENCE_S):
            threading.Thread(target=self._cleanup, name="bury", daemon=True).start()
        else:
            self._cleanup()

    def _cleanup(self) -> None:
        """Remove the remains of an exited sandbox."""
        born = self._pidfd >= 0
        if born:
            if not self._has_ended(DEATH_TIMEOUT_S):
                log.error("a killed sandbox does not end", extra={"sandbox": self.id})
                self._has_ended(None)
            with self._lock:
                os.close(self._pidfd)
                self._pidfd = -1
        if self.group is not None and (self._traits.helpers or not born):  # it may have failed half-way
            kill_all(self.group)
        try:
            self.undo.close()
        except (OSError, EngineError):
            log.exception("a sandbox was not removed in full", extra={"sandbox": self.id})

    def _has_ended(self, timeout_s: float | None) -> bool:
        """Return whether PID 1 has ended in that time; the kernel lets it end after all others of its namespace."""
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))


def kill_all(group: Group) -> None:
    """Kill the processes of a group until it is empty, or for DEATH_TIMEOUT_S."""
    deadline = time.monotonic() + DEATH_TIMEOUT_S
    while (pids := group.pids()) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)

"""One sandbox of engine `docker`: its stream, its PID 1, its control group, and its removal."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from protocol.limits import MIB, Limits
from protocol.result import Isolation
from sandbox.engines import EngineError, Stats
from sandbox.engines.build_directory import close_build_directory
from sandbox.engines.cgroups.detect import group_of
from sandbox.engines.cgroups.freezer import Freezer
from sandbox.engines.cgroups.group import Bounds, Group
from sandbox.engines.confinement import TERMINALS, bounds_of, tmpfs_rooms
from sandbox.engines.docker.container import NANO
from sandbox.engines.docker.daemon import Daemon
from sandbox.engines.docker.freezer import DaemonFreezer
from sandbox.engines.docker.read_only_cgroup import ReadOnlyCgroup, is_writable
from sandbox.engines.docker.stream import AttachStream
from sandbox.engines.pid1_status import ExpectedStatus, ProcessView, check_posture, process_view
from sandbox.engines.runtime_features import RuntimeFeatures
from sandbox.engines.syscalls import bound_terminals, resize_tmpfs
from sandbox.engines.work_disk import WorkDisk
from sandbox.images import Image

log = logging.getLogger(__name__)

DEATH_TIMEOUT_S = 10.0
REMOVE_TIMEOUT_S = 20.0
REMOVE_POLL_S = 0.05
#: Seconds to the next attempt after each failed removal; there are no further attempts.
REMOVE_AGAIN_S = (0.1, 0.4, 1.6)
#: As the daemon has its terminals.
TERMINALS_GROUP = "gid=5"


class DockerSandbox:
    """One container, used once."""

    def __init__(
        self,
        name: str,
        image: Image,
        facts: Isolation,
        bounds: Bounds,
        expected: ExpectedStatus | None,
        traits: RuntimeFeatures,
        daemon: Daemon,
    ) -> None:
        """Wrap a container; `expected` is what its PID 1 must show, None where the host cannot see it."""
        self.id = name
        self.image = image
        self.undo = ExitStack()
        self.stream: AttachStream
        self.container = ""
        self._daemon = daemon
        self._facts = facts
        self._bounds = bounds
        #: The bounds of the group as the daemon knows them.
        self._told = traits.with_headroom(bounds)
        self._expected = expected
        self._traits = traits
        self._lock = threading.Lock()
        self._group: Group | None = None
        self._freezer: Freezer | None = None
        self._work_disk: WorkDisk | None = None
        self._stats = Stats(0, 0, 0)
        self._applied_at = 0.0
        self._pid = 0
        self._pidfd = -1
        self._gone = False

    def attach_pid(self, pid: int) -> None:
        """Note the host's pid of the container's PID 1. Raises EngineError if this host does not see it."""
        try:
            self._pidfd = os.pidfd_open(pid)
            self._group = self._group_of(pid)
        except (OSError, EngineError) as e:
            raise EngineError(
                f"process {pid} of a new container is not to be seen here: it ended at once, or the daemon is on "
                f"another host or outside of this process namespace ({e})"
            ) from e
        self._pid = pid

    def bound_terminals(self) -> None:
        """Limit the terminals of the container's devpts: no field of a container's creation does."""
        if not self._traits.own_devices:
            # No program has run in there yet, so the path leads where it says.
            bound_terminals(f"/proc/{self._pid}/root/dev/pts", (TERMINALS_GROUP, *TERMINALS))

    def _group_of(self, pid: int) -> Group:
        held = self._traits.with_headroom(self._bounds)
        found = group_of(pid, held)
        if is_writable(found):
            return found
        return ReadOnlyCgroup(found, held, lambda bounds: self._daemon.update(self.container, update_of(bounds)))

    @property
    def pid(self) -> int:
        """Return the host's pid of the sandbox's PID 1."""
        return self._pid

    def measure(self) -> None:
        """Compare PID 1's status with the expected one; see `Sandbox.measure`."""
        if self._expected is not None:
            check_posture(self._pid, self._expected)

    def report_not_ready(self) -> None:
        """Do nothing: sandboxes share no source; see `Sandbox.report_not_ready`."""

    def quarantine_source(self) -> bool:
        """Return False: there is no other source; see `Sandbox.quarantine_source`."""
        return False

    def is_outdated(self) -> bool:
        """Return False: there are no templates; see `Sandbox.is_outdated`."""
        return False

    def process_view(self) -> ProcessView:
        """Return where the host's kernel describes its processes; see `Sandbox.process_view`."""
        assert self._group is not None
        return process_view(self._pid, self._group.pids(), self._expected)

    def apply(self, limits: Limits, disk_mb: int | None = None) -> bool:
        """Apply a job's limits and start measuring; see `Sandbox.apply`."""
        assert self._group is not None
        self.measure()
        bounds = bounds_of(limits)
        if not self._set(bounds):
            return False
        resized = disk_mb is not None or bounds.memory_bytes != self._bounds.memory_bytes
        if resized and self._traits.resizes_tmpfs:
            for path, room in tmpfs_rooms(bounds.memory_bytes, disk_mb).items():
                # No program has run in there yet, so the path cannot be redirected.
                resize_tmpfs(f"/proc/{self._pid}/root{path}", room.size_bytes, room.inodes)
        self._bounds = bounds
        self._applied_at = time.time()
        self._group.start_counting()
        return True

    def _set(self, bounds: Bounds, *, reclaim: bool = False) -> bool:
        assert self._group is not None
        held = self._traits.with_headroom(bounds)
        if not self._group.set(held, reclaim=reclaim):
            return False
        if self._daemon.about.cgroup_driver == "systemd" and held != self._told:
            # systemd writes its own values back when its units are reloaded.
            self._daemon.update(self.container, update_of(held))
            self._told = held
        return True

    def enter_compile_phase(self, limits: Limits) -> bool:
        """Change the bounds for the compile phase and reset the counters; see `Sandbox.enter_compile_phase`."""
        assert self._group is not None
        if not self._set(bounds_of(limits), reclaim=True):
            return False
        self._group.start_counting()
        return True

    def leave_compile_phase(self) -> bool:
        """Close the build directory and go back to the program's own bounds; see `Sandbox.leave_compile_phase`."""
        assert self._group is not None
        close_build_directory(self._pid, self._traits)
        if not self._set(self._bounds, reclaim=True):
            return False
        self._group.start_counting()
        return True

    def raise_memory_limit(self, reserve_mb: int) -> None:
        """Raise the memory limit after the program's end; see `Sandbox.raise_memory_limit`."""
        assert self._group is not None
        lent = replace(self._bounds, memory_bytes=self._bounds.memory_bytes + reserve_mb * MIB)
        with contextlib.suppress(FileNotFoundError, EngineError):  # the agent has died; that shows elsewhere
            self._group.set(self._traits.with_headroom(lent))

    def stats(self) -> Stats:
        """Return the usage since `apply`; for an ended sandbox the last values read."""
        assert self._group is not None
        try:
            self._stats = self._group.stats()
        except OSError:  # the daemon removes the group when PID 1 ends, by whose hand only it knows then
            if not self._stats.oom_kills and self._out_of_memory():
                self._stats = replace(self._stats, oom_kills=1)
        return self._stats

    def _out_of_memory(self) -> bool:
        try:
            return self._daemon.ran_out_of_memory(self.container, self._applied_at)
        except EngineError as e:
            log.warning("how a sandbox ended is not known", extra={"sandbox": self.id, "reason": str(e)})
            return False

    def refused_processes(self) -> int | None:
        """Return how often the kernel refused a process or thread; see `Sandbox.refused_processes`."""
        return None if self._group is None else self._group.refused_pids()

    def open_freezer(self) -> Freezer:
        """Return what freezes it: its group, or the daemon where that cannot be written."""
        assert self._group is not None
        self._freezer = self._group.freezer() or DaemonFreezer(self._daemon, self.container)
        return self._freezer

    def open_work_disk(self) -> WorkDisk | None:
        """See `Sandbox.open_work_disk`."""
        if not self._traits.resizes_tmpfs:  # it is not a mount of the host's kernel
            return None
        self._work_disk = WorkDisk(self._pid)
        return self._work_disk

    def held_bytes(self) -> int:
        """Return the memory that it holds now."""
        assert self._group is not None
        return self._group.used_bytes()

    def facts(self) -> Isolation:
        """Return the measured confinement."""
        return self._facts

    def kill(self) -> None:
        """Kill PID 1, and with it all in its pid namespace, and close the stream, without a call of the daemon.

        The stream is closed first: unread output must not keep the daemon from seeing the end.
        """
        with self._lock:
            if self._pidfd >= 0:
                self.stream.hang_up()
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def destroy(self) -> None:
        """Kill, wait for every process's end, have the container removed."""
        with self._lock:
            if self._gone:
                return
            self._gone = True
        self.kill()
        if hasattr(self, "stream"):
            self.stream.close()
        if self._freezer is not None:
            self._freezer.close()
        if self._work_disk is not None:
            self._work_disk.close()
        if self._pidfd >= 0:
            self._await_death()
        try:
            if self.container:
                self._remove()
        except EngineError as e:
            log.error("a container was not removed", extra={"sandbox": self.id, "reason": str(e)})  # noqa: TRY400
        self.undo.close()

    def _await_death(self) -> None:
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        if not poller.poll(DEATH_TIMEOUT_S * 1000):
            log.error("a killed sandbox does not end", extra={"sandbox": self.id})
        with self._lock:
            os.close(self._pidfd)
            self._pidfd = -1

    def _remove(self) -> None:
        """Ask until it is gone: at its end the daemon removes it too, and refuses while it is about it.

        A daemon that fails is asked again: it does not remove a container that was never started.
        """
        deadline = time.monotonic() + REMOVE_TIMEOUT_S
        pauses = iter(REMOVE_AGAIN_S)
        while True:
            try:
                if self._daemon.remove(self.container):
                    return
                pause = REMOVE_POLL_S
            except EngineError:
                pause = next(pauses, 0.0)
                if not pause:
                    raise
            if time.monotonic() > deadline:
                raise EngineError("the daemon does not finish removing it")
            time.sleep(pause)


def update_of(bounds: Bounds) -> dict[str, Any]:
    """Return the bounds in the form of the API's ContainerUpdate."""
    return {
        "Memory": bounds.memory_bytes,
        "MemorySwap": bounds.memory_bytes,
        "NanoCpus": int(bounds.cpus * NANO),
        "PidsLimit": bounds.pids,
    }

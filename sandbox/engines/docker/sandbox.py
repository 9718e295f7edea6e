"""One sandbox of engine `docker`: its stream, its PID 1, its control group, and how to be rid of it."""

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
from sandbox.engines.cgroups.group import Bounds, Group
from sandbox.engines.confinement import bounds_of, tmpfs_sizes
from sandbox.engines.docker.container import NANO
from sandbox.engines.docker.daemon import Daemon
from sandbox.engines.docker.read_only_cgroup import ReadOnlyCgroup, is_writable
from sandbox.engines.docker.stream import AttachStream
from sandbox.engines.pid1_status import ExpectedStatus, ProcessView, check_posture, process_view
from sandbox.engines.runtime_features import RuntimeFeatures
from sandbox.engines.syscalls import resize_tmpfs
from sandbox.images import Image

log = logging.getLogger(__name__)

DEATH_TIMEOUT_S = 10.0
REMOVE_TIMEOUT_S = 20.0
REMOVE_POLL_S = 0.05
#: After each failure to remove so long until the next try, and no more tries than that.
REMOVE_AGAIN_S = (0.1, 0.4, 1.6)


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
        #: What the daemon holds the group to, as far as it knows.
        self._told = traits.with_headroom(bounds)
        self._expected = expected
        self._traits = traits
        self._lock = threading.Lock()
        self._group: Group | None = None
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
        """Hold PID 1 against what must be in force; see `Sandbox.measure`."""
        if self._expected is not None:
            check_posture(self._pid, self._expected)

    def report_not_ready(self) -> None:
        """Do nothing: sandboxes share no source; see `Sandbox.report_not_ready`."""

    def quarantine_source(self) -> bool:
        """Return False: there is no other source; see `Sandbox.quarantine_source`."""
        return False

    def process_view(self) -> ProcessView:
        """Return where the host's kernel describes its processes; see `Sandbox.process_view`."""
        assert self._group is not None
        return process_view(self._pid, self._group.pids(), self._expected)

    def apply(self, limits: Limits) -> bool:
        """Put a job's limits in force and start counting; see `Sandbox.apply`."""
        assert self._group is not None
        self.measure()
        bounds = bounds_of(limits)
        if not self._set(bounds):
            return False
        if bounds.memory_bytes != self._bounds.memory_bytes and self._traits.resizes_tmpfs:
            for path, capacity in tmpfs_sizes(bounds.memory_bytes).items():
                # No program has run in there yet, so the path leads where it says.
                resize_tmpfs(f"/proc/{self._pid}/root{path}", capacity)
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
            # systemd writes back what it was told when its units are loaded again.
            self._daemon.update(self.container, update_of(held))
            self._told = held
        return True

    def enter_compile_phase(self, limits: Limits) -> None:
        """Widen the bounds for the compile phase and count anew; see `Sandbox.enter_compile_phase`."""
        assert self._group is not None
        self._set(bounds_of(limits))
        self._group.start_counting()

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

    def facts(self) -> Isolation:
        """Return the confinement in force."""
        return self._facts

    def kill(self) -> None:
        """Kill PID 1, and with it all in its pid namespace, and stop taking what it said; the daemon is not asked.

        Hanging up comes first: what nobody reads any more must not keep the daemon from seeing the end.
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

        A daemon that fails is asked again: of a container that was never started it does nothing by itself.
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

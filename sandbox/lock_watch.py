"""A watch on file locks, which the kernel charges to no cgroup: it ends the runs that hold thousands of them.

SQLite and others need locks, so they cannot be refused, and no limit of the kernel bounds them (RLIMIT_LOCKS has no
effect since Linux 2.6). Each takes 192 bytes, outside of any control group, and those on the one inode of all
event descriptors slow every close of such a descriptor on the machine. So their number is checked four times a
second while there are runs. If it has grown, the kernel's list names the process that made the newest ones, and the
inode. If that process has exited and another shares its descriptors, the descriptors of each run are read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sandbox.engines import EngineError, Sandbox

log = logging.getLogger(__name__)

PROC = Path("/proc")
OBJECTS = Path("/sys/kernel/slab/file_lock_cache/objects")
LOCK_BYTES = 192
#: New locks on the machine that are worth a look, and locks of one run that end it then.
MOST_NEW, MOST_OF_A_RUN = 4096, 2048
#: So many times counts a lock on an inode of the whole machine: no ordinary program takes one.
SHARED_WEIGHT = 16
BUSY_S, IDLE_S = 0.25, 1.0
#: Of the kernel's list, which begins with the newest; and of one descriptor's description.
LIST_BYTES, PIECE_BYTES, ABOUT_BYTES = 512 * 1024, 64 * 1024, 64 * 1024
#: To read descriptors at one look.
DESCRIPTORS_S = 2.0


class LockWatch:
    """Watches the sandboxes of running programs. Safe from any thread; `start` once."""

    def __init__(self, proc: Path = PROC, objects: Path = OBJECTS) -> None:
        self._proc = proc
        self._objects = objects
        self._sandboxes: dict[str, Sandbox] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        #: The number of locks, or fewer, when no run held too many.
        self._floor = 0
        self._turn = 0
        self._shared = shared_inodes()

    def start(self) -> None:
        """Watch until `stop`."""
        self._floor = self.count()
        threading.Thread(target=self._watch, name="locks", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()

    @contextlib.contextmanager
    def over(self, sandbox: Sandbox) -> Iterator[None]:
        """Watch a sandbox while its program runs. No thread is woken for it: a short run costs nothing."""
        with self._lock:
            self._sandboxes[sandbox.id] = sandbox
        try:
            yield
        finally:
            with self._lock:
                del self._sandboxes[sandbox.id]

    def _watch(self) -> None:
        while not self._stopping.wait(BUSY_S if self._sandboxes else IDLE_S):
            if self._sandboxes:
                try:
                    self.look()
                except OSError as e:
                    log.warning("file locks cannot be looked at: %s", e)

    def count(self) -> int:
        """Return the number of file locks on this machine, or more: the kernel may keep other things with them."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(self._objects.read_text().split()[0])
        for line in (self._proc / "meminfo").read_text().splitlines():
            if line.startswith("SUnreclaim:"):
                return int(line.split()[1]) * 1024 // LOCK_BYTES
        return 0

    def look(self) -> list[str]:
        """Kill the runs that hold too many locks if there are many new ones; the names of their sandboxes."""
        count = self.count()
        self._floor = min(self._floor, count)
        if count < self._floor + MOST_NEW:
            return []
        with self._lock:
            sandboxes = dict(self._sandboxes)
        owners = {pid: name for name, one in sandboxes.items() for pid in _processes(one)}
        held, unknown = self._newest(owners)
        if max(held.values(), default=0) < MOST_OF_A_RUN <= unknown:
            held = self._by_descriptors(owners)
        guilty = [name for name, locks in held.items() if locks >= MOST_OF_A_RUN]
        for name in guilty:
            log.warning("a run is killed for its file locks", extra={"sandbox": name, "locks": held[name]})
            sandboxes[name].kill()
        if not guilty:  # the new locks belong to no run
            self._floor = count
        return guilty

    def _newest(self, owners: dict[int, str]) -> tuple[Counter[str], int]:
        """Return the newest locks by sandbox, and the number of locks of other processes. See proc_locks(5).

        Locks on inodes of the whole machine count SHARED_WEIGHT times.
        """
        by_pid: Counter[int] = Counter()
        for line in _read(self._proc / "locks", LIST_BYTES).splitlines()[:-1]:
            words = line.replace(b"-> ", b"").split()
            if len(words) > 5:
                with contextlib.suppress(ValueError):
                    by_pid[int(words[4])] += SHARED_WEIGHT if words[5] in self._shared else 1
        held: Counter[str] = Counter()
        unknown = 0
        for pid, locks in by_pid.items():
            if pid in owners:
                held[owners[pid]] += locks
            else:  # of the host, or has ended: a zombie is in no group either
                unknown += locks
        return held, unknown

    def _by_descriptors(self, owners: dict[int, str]) -> Counter[str]:
        """Count locks by sandbox, as many as can be read in time; the next look begins where this one ends."""
        held: Counter[str] = Counter()
        pids = sorted(owners)
        deadline = time.monotonic() + DESCRIPTORS_S
        for number in range(len(pids)):
            pid = pids[(self._turn + number) % len(pids)]
            if time.monotonic() > deadline:
                self._turn += number
                break
            if held[owners[pid]] < MOST_OF_A_RUN:
                held[owners[pid]] += self._locks_of(pid, deadline)
        return held

    def _locks_of(self, pid: int, deadline: float) -> int:
        """Count the locks of one process's descriptors, up to the number that is too many."""
        locks = 0
        folder = self._proc / str(pid) / "fdinfo"
        with contextlib.suppress(OSError):  # it has ended
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    locks += _read(folder / name, ABOUT_BYTES).count(b"\nlock:")
                if locks >= MOST_OF_A_RUN or time.monotonic() > deadline:
                    break
        return locks


def shared_inodes() -> frozenset[bytes]:
    """Return the inodes of all event descriptors and of all names of this time namespace, as in /proc/locks."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        found = [os.fstat(fd)]
    finally:
        os.close(fd)
    with contextlib.suppress(OSError):  # a kernel without time namespaces
        found.append(os.stat("/proc/self/ns/time"))
    return frozenset(
        f"{os.major(one.st_dev):02x}:{os.minor(one.st_dev):02x}:{one.st_ino}".encode() for one in found
    )


def _processes(sandbox: Sandbox) -> tuple[int, ...]:
    try:
        return sandbox.process_view().processes
    except (EngineError, OSError):  # it has ended
        return ()


def _read(path: Path, most: int) -> bytes:
    """Return the first bytes of a kernel file that is read piece by piece."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while len(found) < most and (piece := os.read(fd, PIECE_BYTES)):
            found += piece
        return found
    finally:
        os.close(fd)

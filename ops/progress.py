"""The progress of a starting service, measured on its processes. Standard library only.

A slow machine takes minutes for a start that takes seconds elsewhere, so the wait for it ends when there is no more
progress, not at a fixed time. A program that ends and is started again uses processor time too, but does not come
nearer to serving, so only its first starts count.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops.state import StatePlace, processes

#: Reading /proc takes a slow machine a while.
LOOK_EVERY_S = 10.0
#: Of one processor. A service that only answers the question whether it is ready uses a fraction of this.
BUSY_SHARE = 0.25
#: Read from or written to the disk since the last look, where the processor waits for that.
BUSY_BYTES = 1 << 20
#: A program that was started more often than this makes no progress.
MOST_STARTS = 3
#: The programs of the service. Not the builder of images: it is busy for minutes.
PROGRAMS = (b"ops.supervisor", b"ops.unit", b"worker", b"gunicorn")
BUILDER = b"images"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """The resources that a process has used so far. `is_leader`: it leads its session, `program`: see PROGRAMS.

    `seconds` are those of a processor that it had or waited for: on a busy machine it may get hardly any.
    """

    pid: int
    started: int
    program: bytes
    is_leader: bool
    seconds: float
    disk_bytes: int


class StartProgress:
    """The progress of one start, from the moment this object is made."""

    def __init__(
        self,
        look: Callable[[], list[ProcessUse]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look` returns the processes of the service, such as `look_at` of its place."""
        self._look, self._clock = look, clock
        self._looked_at = self._moved_at = clock()
        self._known: dict[tuple[int, int], ProcessUse] = {}
        self._starts: dict[bytes, set[tuple[int, int]]] = {}

    def idle_s(self) -> float:
        """Return the seconds since the last progress. Looks at the service every LOOK_EVERY_S at most."""
        now = self._clock()
        elapsed = now - self._looked_at
        if elapsed >= LOOK_EVERY_S:
            if self._has_moved(elapsed):
                self._moved_at = now
            self._looked_at = now
        return now - self._moved_at

    def _has_moved(self, elapsed: float) -> bool:
        seconds, disk_bytes = 0.0, 0
        found: dict[tuple[int, int], ProcessUse] = {}
        for use in self._look():
            key = (use.pid, use.started)
            found[key] = use
            starts = self._starts.setdefault(use.program, set())
            if use.is_leader:
                starts.add(key)
            if len(starts) > MOST_STARTS:
                continue
            before = self._known.get(key)
            # The kernel forgets the waiting time of a thread that has ended.
            seconds += max(0.0, use.seconds - (before.seconds if before is not None else 0.0))
            disk_bytes += use.disk_bytes - (before.disk_bytes if before is not None else 0)
        self._known = found
        return seconds >= BUSY_SHARE * elapsed or disk_bytes >= BUSY_BYTES


def look_at(place: StatePlace, proc: Path = Path("/proc")) -> list[ProcessUse]:
    """Return what the processes of the service have used, without its builder and its sandboxes."""
    found = []
    for pid in processes(place):
        with contextlib.suppress(OSError):  # it has ended
            use = _use(proc / str(pid))
            if use is not None:
                found.append(use)
    return found


def _use(folder: Path) -> ProcessUse | None:
    argv = (folder / "cmdline").read_bytes().split(b"\0")
    program = next((name for name in PROGRAMS if name in argv), None)
    if program is None or BUILDER in argv:
        return None
    # The name in parentheses may have spaces; the numbers come after it (proc(5)).
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    session, ticks, started = int(fields[3]), sum(map(int, fields[11:15])), int(fields[19])
    pid = int(folder.name)
    seconds = ticks / TICKS_PER_S + _waited_s(folder)
    return ProcessUse(pid, started, program, session == pid, seconds, _disk_bytes(folder))


def _waited_s(folder: Path) -> float:
    """Return for how long the threads of a process could run and had no processor; 0 where it is not counted."""
    waited_ns = 0
    for counts in folder.glob("task/*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended
            waited_ns += int(counts.read_text().split()[1])
    return waited_ns / 1e9


def _disk_bytes(folder: Path) -> int:
    """Return what a process has read from and written to disks; 0 where the kernel does not count it."""
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split(": ") for line in (folder / "io").read_text().splitlines())
        return sum(int(count) for name, count in lines if name in {"read_bytes", "write_bytes"})
    return 0

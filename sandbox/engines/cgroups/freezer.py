"""Freezing the processes of a sandbox by version 2 of control groups, also where version 1 limits them.

A process that is frozen this way dies of SIGKILL at once; one that is frozen by version 1's freezer would not. So
on a machine with both versions a sandbox that may be frozen has a group in the unified hierarchy too, in which
nothing is limited.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Protocol

from sandbox.engines.cgroups import files

if TYPE_CHECKING:
    from collections.abc import Callable

#: The kernel freezes within milliseconds all that does not wait for a device.
FREEZE_S = 1.0
#: Looks for processes that are not in the group yet: no program runs while it is made.
MOST_LOOKS = 8


class Freezer(Protocol):
    """Stops all processes of a sandbox, and lets them go on. Not safe from several threads at once."""

    def freeze(self) -> bool:
        """Stop them. False if the kernel does not say so in time; they then go on."""
        ...

    def thaw(self) -> None:
        """Let them go on; without effect if they do."""
        ...

    def close(self) -> None:
        """Release its resources; the sandbox's processes have exited."""
        ...


class GroupFreezer:
    """`Freezer` of one directory of the unified hierarchy."""

    def __init__(self, path: str, *, made: bool = False) -> None:
        """`made` is a directory for this alone, which `close` removes."""
        self.path = path
        self._made = made

    @property
    def is_usable(self) -> bool:
        """Return whether this kernel freezes (5.2 and later) and lets this process say so."""
        return os.access(f"{self.path}/cgroup.freeze", os.W_OK)

    def freeze(self) -> bool:
        """See `Freezer.freeze`."""
        files.write(f"{self.path}/cgroup.freeze", 1)
        if self._is_frozen_within(FREEZE_S):
            return True
        self.thaw()
        return False

    def thaw(self) -> None:
        """See `Freezer.thaw`."""
        with contextlib.suppress(FileNotFoundError):
            files.write(f"{self.path}/cgroup.freeze", 0)

    def close(self) -> None:
        """See `Freezer.close`."""
        if self._made:
            files.remove_directory(self.path)

    def _is_frozen_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        events = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poller = select.poll()
            poller.register(events, select.POLLPRI)
            while not files.keyed(os.pread(events, files.READ_BYTES, 0).decode(), "frozen"):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                poller.poll(left_s * 1000 + 0.5)
        finally:
            os.close(events)
        return True


def gather(path: str, members: Callable[[], list[int]]) -> GroupFreezer | None:
    """Make a group of the unified hierarchy for the processes of another; None if this machine does not let it.

    No program may run in there yet, as one that forks all the time could not be caught.
    """
    freezer = GroupFreezer(path, made=True)
    try:
        os.makedirs(path, exist_ok=True)
        if freezer.is_usable:
            for _ in range(MOST_LOOKS):
                missing = set(members()) - set(files.pids_in(path))
                if not missing:
                    return freezer
                for pid in missing:
                    with contextlib.suppress(ProcessLookupError):
                        files.write(f"{path}/cgroup.procs", pid)
    except OSError:
        pass
    with contextlib.suppress(OSError):
        os.rmdir(path)
    return None

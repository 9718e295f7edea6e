"""Slots: a range of host uids for each concurrent sandbox, with a user namespace that the range owns.

Kernel quotas (inotify instances, pending signals, pipe pages) are per uid, and in a user namespace they are
also charged to the namespace's owner: were root the owner of all, one run could use up another's. So every
slot's namespace is made by, and belongs to, the slot's own first uid, which runs nothing.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.confinement import IDS_PER_SLOT
from sandbox.engines.syscalls import CLONE_NEWUSER, become_user, unshare

#: On an overloaded machine sandboxes may be used faster than they die: then the next one is made a little later.
SLOT_WAIT_S = 10.0
NO_USER_NAMESPACE = (
    "this kernel does not let a user namespace be made -> sysctl user.max_user_namespaces=65536; in a container, "
    "start it with CAP_SYS_ADMIN"
)


@dataclass(frozen=True, slots=True)
class Slot:
    """`first_uid` maps to 0 inside; `user_namespace` is a descriptor that keeps the namespace."""

    number: int
    first_uid: int
    user_namespace: int


class Slots:
    """The free slots. Namespaces are made here, before the worker has threads: making one forks."""

    def __init__(self, uid_base: int, count: int) -> None:
        # The first range above the base holds the uid of the api process.
        last = uid_base + (count + 2) * IDS_PER_SLOT  # the range after the last slot's is the templates' own
        if last > 2**31:
            raise EngineError(f"UID_BASE={uid_base} leaves no room for {count} slots below 2^31")
        self._change = threading.Condition()
        self.count = count
        #: Of every slot's first uid the lowest; the slots' ranges follow one upon the other.
        self.first_uid = uid_base + IDS_PER_SLOT
        self._all = [
            Slot(n, first, make_user_namespace(first, [(0, first, IDS_PER_SLOT)]))
            for n in range(count)
            for first in (uid_base + (n + 1) * IDS_PER_SLOT,)
        ]
        self._free = list(self._all)

    def take(self) -> Slot:
        """Return a free slot, after waiting for slots of exiting sandboxes. Raises EngineError when none becomes
        free.
        """
        with self._change:
            if not self._change.wait_for(lambda: self._free, SLOT_WAIT_S):
                raise EngineError("no free slot")
            return self._free.pop(0)

    def give_back(self, slot: Slot) -> None:
        """Return a slot whose sandbox has been removed."""
        with self._change:
            self._free.append(slot)
            self._change.notify()

    def close(self) -> None:
        """Let the namespaces go."""
        for slot in self._all:
            os.close(slot.user_namespace)


def make_user_namespace(owner: int, mapping: list[tuple[int, int, int]]) -> int:
    """Make a user namespace owned by host uid `owner`; a descriptor that keeps it.

    `mapping` is of (first id inside, first id on the host, count).
    """
    ready_read, ready_write = os.pipe()
    hold_read, hold_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become_user(owner)
            unshare(CLONE_NEWUSER)
            os.write(ready_write, b"1")
            os.close(hold_write)
            os.read(hold_read, 1)
        finally:
            os._exit(0)
    os.close(ready_write)
    try:
        if os.read(ready_read, 1) != b"1":
            raise EngineUnusable(NO_USER_NAMESPACE)
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in mapping)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(hold_write)
        for fd in (ready_read, hold_read):
            os.close(fd)
        os.waitpid(pid, 0)

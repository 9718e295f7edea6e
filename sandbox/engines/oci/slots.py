"""Slots: a range of host uids for each concurrent sandbox, with a user namespace that the range owns.

Kernel quotas (inotify instances, pending signals, pipe pages) are per uid, and in a user namespace they are
also charged to the namespace's owner: were root the owner of all, one run could use up another's. So every
slot's namespace is made by, and belongs to, the slot's own first uid, which runs nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.engines import EngineError
from sandbox.engines.confinement import IDS_PER_SLOT
from sandbox.engines.oci.namespace_maker import IdMapping, NamespaceMaker, make_user_namespace

log = logging.getLogger(__name__)

#: On an overloaded machine sandboxes may be used faster than they die: then the next one is made a little later.
SLOT_WAIT_S = 10.0
#: Slots that are made at the start; the others are made when fewer than AHEAD of these are free.
MADE_AT_START = 64
#: Enough for the sandboxes that are begun while the next slots are made, at some 10 ms each.
AHEAD = 8


@dataclass(frozen=True, slots=True)
class Slot:
    """`first_uid` maps to 0 inside; `user_namespace` is a descriptor that keeps the namespace."""

    number: int
    first_uid: int
    user_namespace: int


class Slots:
    """The free slots. Some are made here, the others by a process of their own: making one forks."""

    def __init__(self, uid_base: int, count: int) -> None:
        """Make the first slots, before the worker has threads; there are `count` at most."""
        # The first range above the base holds the uid of the api process.
        last = uid_base + (count + 2) * IDS_PER_SLOT  # the range after the last slot's is the templates' own
        if last > 2**31:
            raise EngineError(f"UID_BASE={uid_base} leaves no room for {count} slots below 2^31")
        self._change = threading.Condition()
        self.count = count
        #: Of every slot's first uid the lowest; the slots' ranges follow one upon the other.
        self.first_uid = uid_base + IDS_PER_SLOT
        self._maker = NamespaceMaker() if count > MADE_AT_START else None
        self._all = [self._made(number, make_user_namespace) for number in range(min(count, MADE_AT_START))]
        self._free = list(self._all)
        self._is_making = False

    def take(self) -> Slot:
        """Return a free slot, after waiting for slots of exiting sandboxes. Raises EngineError when none becomes
        free.
        """
        with self._change:
            if self._lacks_slots() and not self._is_making:
                self._is_making = True
                threading.Thread(target=self._make_ahead, name="slots", daemon=True).start()
            if not self._change.wait_for(lambda: self._free, SLOT_WAIT_S):
                raise EngineError("no free slot")
            return self._free.pop(0)

    def _lacks_slots(self) -> bool:
        return self._maker is not None and len(self._free) <= AHEAD and len(self._all) < self.count

    def _make_ahead(self) -> None:
        """Make slots until enough are free; one that cannot be made is tried again by the next `take`."""
        assert self._maker is not None
        while True:
            with self._change:
                self._is_making = self._lacks_slots()
                if not self._is_making:
                    return
                number = len(self._all)  # nobody else adds to them
            try:
                slot = self._made(number, self._maker.make)
            except EngineError as e:
                log.error("a slot was not made: %s", e)  # noqa: TRY400  # the words suffice
                with self._change:
                    self._is_making = False
                return
            with self._change:
                self._all.append(slot)
                self._free.append(slot)
                self._change.notify()

    def _made(self, number: int, make: Callable[[int, IdMapping], int]) -> Slot:
        first = self.first_uid + number * IDS_PER_SLOT
        return Slot(number, first, make(first, [(0, first, IDS_PER_SLOT)]))

    def release(self, slot: Slot) -> None:
        """Return a slot whose sandbox has been removed."""
        with self._change:
            self._free.append(slot)
            self._change.notify()

    def close(self) -> None:
        """Let the namespaces go."""
        if self._maker is not None:
            self._maker.close()
        for slot in self._all:
            os.close(slot.user_namespace)

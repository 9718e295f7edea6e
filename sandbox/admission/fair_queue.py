"""The policy of admission, without threads and clocks: which run gets a place, which waits, which is refused.

Three resources are shared: places, memory and the queue. An eighth of each (at least 2 places and 512 MiB; nothing
where there is not twice that) is the *reserve*. It is for keys that hold less than an equal share; any key may use
the rest, which is called *general* here. An equal share is the whole divided by the number of keys that have a run,
and by two at least, so that one key alone never holds everything.

Keys take turns. A run that does not fit is passed over, by others of its key as well. The first run of each key
ages from the moment another run was admitted in front of it. When it has aged for `patience_s`, general memory is
kept for it until it fits. The reserve stays open meanwhile, except with a run so large that it needs that too.

A full queue makes room for a key that has fewer runs in it than another: the newest run of the key that has the
most is evicted. So a key that holds little is refused only when every key in the queue holds as little.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from sandbox.admission.reservation import (
    LEAST_RESERVED_MB,
    LEAST_RESERVED_PLACES,
    Reservation,
    ResourcePool,
    reserve_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

LEAST_KEYS = 2


class AdmissionError(Exception):
    """The base of why a run got no place."""


class Overloaded(AdmissionError):
    """The queue is full, or the run has waited as long as one may."""


class KeyLimitReached(AdmissionError):
    """The key has all the runs that its plan allows, running and waiting."""


class BeyondShare(KeyLimitReached):
    """The key holds its share or more, and what others do not need is used up."""


class _Key:
    """The places of one key, and its waiting runs in order of arrival."""

    __slots__ = ("running", "used_mb", "waiting")

    def __init__(self) -> None:
        self.running = self.used_mb = 0
        self.waiting: deque[Reservation] = deque()

    def has_most(self, place: Reservation) -> bool:
        """Return whether as many runs hold a place as the key's plan allows."""
        return place.most_running is not None and self.running >= place.most_running


class FairQueue:
    """Places, memory and queue of one worker. The caller holds a lock around every call."""

    def __init__(self, *, places: int, memory_mb: int, queue: int, patience_s: float) -> None:
        reserved = reserve_of(places, LEAST_RESERVED_PLACES)
        reserved_mb = reserve_of(memory_mb, LEAST_RESERVED_MB)
        self.most, self.memory_mb, self.queue = places, memory_mb, queue
        self.general = ResourcePool(places - reserved, memory_mb - reserved_mb)
        self.reserve = ResourcePool(reserved, reserved_mb)
        self.waiting = 0
        self._general_queue = queue - reserve_of(queue, LEAST_RESERVED_PLACES)
        self._patience_s = patience_s
        self._keys: dict[str, _Key] = {}
        #: The keys that wait, in the order of their turns.
        self._turns: OrderedDict[str, _Key] = OrderedDict()
        #: Held places that use something of the reserve, the oldest first.
        self._borrowed: OrderedDict[Reservation, None] = OrderedDict()

    @property
    def running(self) -> int:
        return self.general.running + self.reserve.running

    @property
    def used_mb(self) -> int:
        return self.general.used_mb + self.reserve.used_mb

    # -- calls -------------------------------------------------------------------------------------

    def enter(self, place: Reservation, now: float, most_waiting: int | None = None) -> Reservation | None:
        """Give the run a place (`held`) or a position in the queue; the run evicted for that, if any.

        Raises KeyLimitReached beyond `most_waiting`, BeyondShare for a key that holds its share, else Overloaded.
        """
        key = self._keys.get(place.key) or self._keys.setdefault(place.key, _Key())
        aged = self._aged(now) if self.waiting else None
        if self._occupy_if_fits(place, key, aged):
            self._note_passed(place, now, self._turns.values())
            return None
        try:
            evicted = self._make_room(key, most_waiting)
        except AdmissionError:
            self._forget_if_idle(place.key, key)
            raise
        key.waiting.append(place)
        self._turns.setdefault(place.key, key)
        self.waiting += 1
        return evicted

    def leave(self, place: Reservation, now: float) -> list[Reservation]:
        """Take the place back, held or waited for; the runs that are admitted in consequence."""
        if place.evicted:
            return []
        key = self._keys[place.key]
        if place.held:
            self._release(place, key)
        else:
            self._unqueue(place, key)
        self._forget_if_idle(place.key, key)
        if self.waiting:
            return self._admit(now)
        self._restore_reserve()
        return []

    def lend(self, memory_mb: int) -> bool:
        """Take free general memory out of what runs may use: a session's. Returns False if there is not so much."""
        if self.general.free_mb < memory_mb or self.used_mb + memory_mb > self.memory_mb:
            return False
        self.general.memory_mb -= memory_mb
        self.memory_mb -= memory_mb
        return True

    def keep_memory(self, place: Reservation, now: float) -> list[Reservation]:
        """Release a held place but keep its memory. Returns the runs that are admitted in consequence.

        Its part of the reserve is free again, and is taken from the general memory.
        """
        key = self._keys[place.key]
        self._release(place, key)
        self._forget_if_idle(place.key, key)
        self.general.memory_mb -= place.memory_mb
        self.memory_mb -= place.memory_mb
        return self._admit(now) if self.waiting else []

    def take_back(self, memory_mb: int, now: float) -> list[Reservation]:
        """Let runs use again what was lent; the runs that are admitted in consequence."""
        self.general.memory_mb += memory_mb
        self.memory_mb += memory_mb
        if self.waiting:
            return self._admit(now)
        self._restore_reserve()
        return []

    def position(self, place: Reservation) -> int:
        """Return how many runs will be admitted up to and with this one if no other comes; 0 once it is held."""
        if place.held or place.evicted:
            return 0
        own = self._keys[place.key].waiting.index(place)
        ahead, before = own, True
        for name, key in self._turns.items():
            if name == place.key:
                before = False
            else:
                ahead += min(len(key.waiting), own + before)
        return ahead + 1

    # -- the queue ---------------------------------------------------------------------------------

    def _make_room(self, key: _Key, most_waiting: int | None) -> Reservation | None:
        own = len(key.waiting)
        if most_waiting is not None and own >= most_waiting:
            raise KeyLimitReached
        little = own * self._sharers < self.queue
        if self.waiting < (self.queue if little else self._general_queue):
            return None
        if little:
            name, longest = max(self._turns.items(), key=lambda item: len(item[1].waiting))
            if len(longest.waiting) - 1 > own:
                evicted = longest.waiting[-1]
                evicted.evicted = True
                self._unqueue(evicted, longest)
                self._forget_if_idle(name, longest)
                return evicted
        shared = self._general_queue < self.queue
        if shared and own + key.running and not (little and self._holds_little(key)):
            raise BeyondShare
        raise Overloaded("the queue is full")

    def _unqueue(self, place: Reservation, key: _Key) -> None:
        key.waiting.remove(place)
        self.waiting -= 1
        if not key.waiting:
            del self._turns[place.key]

    def _forget_if_idle(self, name: str, key: _Key) -> None:
        if not key.running and not key.waiting:
            del self._keys[name]

    # -- places and memory -------------------------------------------------------------------------

    @property
    def _sharers(self) -> int:
        return max(LEAST_KEYS, len(self._keys))

    def _holds_little(self, key: _Key) -> bool:
        sharers = self._sharers
        return key.running * sharers < self.most and key.used_mb * sharers < self.memory_mb

    def _occupy_if_fits(self, place: Reservation, key: _Key, aged: Reservation | None) -> bool:
        """Hold the place if the run may have one now; `aged` is the run that general memory is kept for."""
        need, general, reserve = place.memory_mb, self.general, self.reserve
        if key.has_most(place):
            return False
        # A run larger than all memory may run alone: it has passed the ceiling of its own limit.
        if self.running >= self.most or (self.running and self.used_mb + need > self.memory_mb):
            return False
        is_open = aged is None or aged is place
        of_general = is_open and general.running < general.most
        if of_general and (need <= general.free_mb or not general.running):
            self._occupy(place, key, of_reserve=False, general_mb=need)
            return True
        if not self._holds_little(key) or (not is_open and aged is not None and aged.memory_mb > general.memory_mb):
            return False
        lent_mb = min(need, general.free_mb) if is_open else 0
        if need - lent_mb > reserve.free_mb or not (of_general or reserve.running < reserve.most):
            return False
        self._occupy(place, key, of_reserve=not of_general, general_mb=lent_mb)
        return True

    def _occupy(self, place: Reservation, key: _Key, *, of_reserve: bool, general_mb: int) -> None:
        place.held, place.of_reserve, place.general_mb = True, of_reserve, general_mb
        self._count(place, 1)
        key.running += 1
        key.used_mb += place.memory_mb
        if of_reserve or general_mb < place.memory_mb:
            self._borrowed[place] = None

    def _release(self, place: Reservation, key: _Key) -> None:
        self._count(place, -1)
        key.running -= 1
        key.used_mb -= place.memory_mb
        self._borrowed.pop(place, None)

    def _count(self, place: Reservation, sign: int) -> None:
        (self.reserve if place.of_reserve else self.general).running += sign
        self.general.used_mb += sign * place.general_mb
        self.reserve.used_mb += sign * (place.memory_mb - place.general_mb)

    def _restore_reserve(self) -> None:
        """Move to general what has become free there, so that the reserve is there for the next."""
        for place in list(self._borrowed):
            self._count(place, -1)
            place.of_reserve = place.of_reserve and self.general.running >= self.general.most
            place.general_mb = max(place.general_mb, min(place.memory_mb, self.general.free_mb))
            self._count(place, 1)
            if not place.of_reserve and place.general_mb == place.memory_mb:
                del self._borrowed[place]

    # -- turns -------------------------------------------------------------------------------------

    def _admit(self, now: float) -> list[Reservation]:
        admitted: list[Reservation] = []
        while self.waiting:
            aged = self._aged(now)
            if aged is None:
                self._restore_reserve()
            place = self._next(aged, now)
            if place is None:
                break
            admitted.append(place)
        return admitted

    def _next(self, aged: Reservation | None, now: float) -> Reservation | None:
        """Admit the run whose turn it is, of those that fit."""
        if self.running >= self.most:
            return None
        if aged is not None and self._occupy_if_fits(aged, self._keys[aged.key], aged):
            self._take_turn(aged)
            return aged
        before: list[_Key] = []
        for key in self._turns.values():
            before.append(key)
            unfit_mb: int | None = None
            for place in key.waiting:
                if key.has_most(place) or (unfit_mb is not None and place.memory_mb >= unfit_mb):
                    continue
                if self._occupy_if_fits(place, key, aged):
                    self._note_passed(place, now, before)
                    self._take_turn(place)
                    return place
                unfit_mb = place.memory_mb
        return None

    def _take_turn(self, place: Reservation) -> None:
        key = self._keys[place.key]
        self._unqueue(place, key)
        if key.waiting:
            self._turns.move_to_end(place.key)

    def _note_passed(self, admitted: Reservation, now: float, keys: Iterable[_Key]) -> None:
        """Let the first runs of those keys age, where what was admitted took memory that they wait for."""
        if not admitted.general_mb:
            return
        for key in keys:
            if key.waiting and key.waiting[0].passed_at is None and key.waiting[0].memory_mb > admitted.memory_mb:
                key.waiting[0].passed_at = now

    def _aged(self, now: float) -> Reservation | None:
        """Return the run that was passed over first of those that were so for `patience_s`, and may run."""
        found: Reservation | None = None
        for key in self._turns.values():
            place = key.waiting[0]
            if place.passed_at is None or now - place.passed_at < self._patience_s:
                continue
            if key.has_most(place):
                continue
            if found is None or place.passed_at < (found.passed_at or 0.0):
                found = place
        return found

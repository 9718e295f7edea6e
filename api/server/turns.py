"""Choose the next request to work on: a bounded number at a time, in rotation between keys.

Many threads of one interpreter do not get more done: each lock that one of them holds while another has the
interpreter costs a switch, and a hundred threads spend their time on switches. A bound of a few keeps the service
quick. A line per key keeps a key with a thousand requests from delaying a key with one.

A request that waits gives up its turn (`config.turn`). One that waits without this call is noticed: when no turn
has ended for a while and the process has not been busy either, one more is granted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable

Begin = Callable[[], object]

#: So many requests are worked on at the same time. More are slower: they all want the one interpreter.
MOST = 4
#: So many of them may be one key's, so that another key's request finds one free at once.
MOST_OF_ONE = 3
#: When no turn has ended for this time while a request waits, one more is granted.
STALLED_S = 0.05
#: From this part of that time on which a processor was used, the process is busy: one more would be in the way.
BUSY = 0.5


class Turns:
    """Gives turns. Safe for many threads."""

    def __init__(
        self,
        most: int = MOST,
        *,
        most_of_one: int = MOST_OF_ONE,
        stalled_s: float = STALLED_S,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        """`processor` returns the CPU seconds that this process has used."""
        self._processor = processor
        self._used = 0.0
        self._most, self._most_of_one = most, min(most, most_of_one)
        self._held: Counter[Hashable] = Counter()
        self._stalled_s = stalled_s
        self._lock = threading.Lock()
        self._active = 0
        self._ended = self._seen = 0
        self._seen_at = time.monotonic()
        #: Those that wait, by whose they are, in the order in which these have their turns. No line is empty.
        self._lines: OrderedDict[Hashable, deque[Begin]] = OrderedDict()

    @property
    def active(self) -> int:
        """Return how many turns are held."""
        return self._active

    @property
    def has_waiting(self) -> bool:
        """Return whether a request waits, so that `unstick` must be called."""
        return bool(self._lines)

    def take_at_once(self, whose: Hashable) -> bool:
        """Take a turn if there is one. Returns whether."""
        with self._lock:
            if not self._may_begin(whose):
                return False
            self._count(whose)
            return True

    def ask(self, whose: Hashable, begin: Begin, *, first: bool = False) -> None:
        """Call `begin` with a turn taken for it, now or later; `first` is in front of what else is theirs."""
        with self._lock:
            if not self._may_begin(whose):
                if not self._lines:
                    self._seen = -1  # from now on it counts whether a turn ends
                line = self._lines.get(whose)
                if line is None:
                    line = self._lines[whose] = deque()
                (line.appendleft if first else line.append)(begin)
                return
            self._count(whose)
        begin()

    def leave(self, whose: Hashable) -> None:
        """Release a turn and begin the next waiting one."""
        with self._lock:
            self._ended += 1
            self._active -= 1
            self._held[whose] -= 1
            if not self._held[whose]:
                del self._held[whose]
            begin = self._next()
        if begin is not None:
            begin()

    def unstick(self) -> None:
        """Give one more turn if those that hold theirs have all been at it for long."""
        with self._lock:
            now = time.monotonic()
            if self._ended == self._seen and now - self._seen_at < self._stalled_s:
                return
            used = self._processor()
            is_stalled = self._ended == self._seen and used - self._used < BUSY * (now - self._seen_at)
            self._seen, self._seen_at, self._used = self._ended, now, used
            if not is_stalled:
                return
            begin = self._pop(next(iter(self._lines))) if self._lines else None
        if begin is not None:
            begin()

    def _may_begin(self, whose: Hashable) -> bool:
        return self._active < self._most and self._held.get(whose, 0) < self._most_of_one

    def _count(self, whose: Hashable) -> None:
        self._active += 1
        self._held[whose] += 1

    def _next(self) -> Begin | None:
        """Take the next request that may begin, if any, and count its turn."""
        if self._active >= self._most:
            return None
        whose = next((whose for whose in self._lines if self._may_begin(whose)), None)
        return None if whose is None else self._pop(whose)

    def _pop(self, whose: Hashable) -> Begin:
        line = self._lines.pop(whose)
        begin = line.popleft()
        if line:
            self._lines[whose] = line
        self._count(whose)
        return begin


class HeldTurn:
    """The turn of one thread for the owner of its present request. Used by that thread only."""

    __slots__ = ("_held", "_of", "_turns", "whose")

    def __init__(self, turns: Turns, whose: Hashable) -> None:
        """Create the object for a turn that has already been taken."""
        self._turns = turns
        self.whose = self._of = whose
        self._held = True

    def leave(self) -> None:
        """Give the turn back, if it is held."""
        if self._held:
            self._held = False
            self._turns.leave(self._of)

    def enter(self) -> None:
        """Wait for a turn, unless it is held."""
        if self._held:
            return
        self._of = self.whose
        if not self._turns.take_at_once(self._of):
            woken = threading.Lock()
            woken.acquire()
            self._turns.ask(self._of, woken.release, first=True)
            while not woken.acquire(timeout=STALLED_S):
                self._turns.unstick()
        self._held = True

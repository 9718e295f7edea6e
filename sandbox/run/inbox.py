"""Input and signals that come for a run while it lives, in order, until its owner passes them on."""

from __future__ import annotations

from collections import deque
from typing import Protocol

#: More input is not taken before the owner has taken some.
ROOM_BYTES = 64 * 1024


class RunInput(Protocol):
    """A program's input as far as the agent has not read it."""

    @property
    def room(self) -> int:
        """Return how much may be added now."""
        ...

    def add(self, data: bytes) -> None:
        """Add input."""
        ...

    def end(self) -> None:
        """Add no more."""
        ...


class RunInbox:
    """Used under its run's lock. `is_fresh`: something was put in since the last `take`."""

    def __init__(self) -> None:
        self.is_fresh = False
        self.is_closed = False
        #: True if the owner must be woken: while the run waits in the queue it has no use for input.
        self.is_served = False
        self._input: deque[bytes] = deque()
        self._size = 0
        self._signals: list[int] = []

    @property
    def has_room(self) -> bool:
        """Return whether input is taken."""
        return self._size < ROOM_BYTES

    def put(self, data: bytes) -> None:
        """Put input in, unless its end is in."""
        if not self.is_closed:
            self._input.append(data)
            self._size += len(data)
            self.is_fresh = True

    def close(self) -> None:
        """Put the end of the input in."""
        self.is_closed = self.is_fresh = True

    def put_signal(self, number: int) -> None:
        """Put a signal in; it overtakes input."""
        self._signals.append(number)
        self.is_fresh = True

    def take(self, stdin: RunInput) -> list[int]:
        """Move input as far as there is room for it. Returns the signals."""
        while self._input and stdin.room:
            data = self._input.popleft()
            self._size -= len(data)
            stdin.add(data)
        if self.is_closed and not self._input:
            stdin.end()
        signals, self._signals = self._signals, []
        self.is_fresh = False
        return signals

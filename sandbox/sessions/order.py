"""The order of runs that wait for each other: those of one context, or of the files of one session."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from protocol.session import MOST_WAITING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Between two looks whether a run that waits for others is still wanted.
WAIT_LOOK_S = 0.1


class TooManyWaiting(Exception):
    """So many runs wait in this order already."""


class RunOrder:
    """Lets one run go on at a time, in the order in which they came. Safe from any thread."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._queue: deque[object] = deque()

    @property
    def is_free(self) -> bool:
        """Return whether no run is under way or waits."""
        return not self._queue

    @contextmanager
    def turn(self, may_wait: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the runs that came before, and keep others waiting; yields False when `may_wait` returned False.

        That is asked now and then while it waits. Raises TooManyWaiting, and what `may_wait` raises.
        """
        turn = object()
        with self._change:
            if len(self._queue) > MOST_WAITING:
                raise TooManyWaiting
            self._queue.append(turn)
        try:
            waits = True
            while waits and (waits := may_wait()):
                with self._change:
                    if self._change.wait_for(lambda: self._queue[0] is turn, WAIT_LOOK_S):
                        break
            yield waits
        finally:
            with self._change:
                self._queue.remove(turn)
                self._change.notify_all()

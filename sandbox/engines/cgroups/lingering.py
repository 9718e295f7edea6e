"""Control groups that were removed and are still in memory, for the sake of pages that are charged to them.

The first run that reads a file of its image is charged for its pages; they stay cached when
its group is removed, and keep the group in memory. A few of those are of use, as the next run finds the pages
there; beyond that the kernel reclaims the pages before a group is removed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

#: So many may linger; counted again at every sixteenth removal, as counting costs more than removing.
MOST_LINGERING = 64
COUNT_EVERY = 16


class Lingering:
    """Decides for the groups of one service whether the next is emptied. Safe from any thread."""

    def __init__(self, count: Callable[[], int]) -> None:
        """Start from the groups that linger now, which others have left; `count` returns how many there are."""
        self._count = count
        self._before = count()
        self._removed = 0
        self._too_many = False
        self._lock = threading.Lock()

    def empties_next(self) -> bool:
        """Return whether a group must be emptied before its removal."""
        with self._lock:
            self._removed += 1
            if self._removed % COUNT_EVERY == 0:
                self._too_many = self._count() - self._before > MOST_LINGERING
            return self._too_many

"""How many threads may be held by what takes long: runs that are waited for, and readers that take their time.

A thread serves one connection, so whoever waits or reads slowly holds one. These bounds leave the rest of them
to what is answered at once: health, cancel, a look at a run.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING

from api.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_S = 2
BEYOND_SHARE = "This key holds its share of the service, and the rest is in use: try again when a run has ended."
#: A smaller answer fits into the socket's buffer: however slowly it is read, no thread waits for that.
SMALL_BYTES = 64 * 1024


class Places:
    """A bounded number of places, each given back once."""

    def __init__(self, number: int, what: str, *, reserved: int = 0) -> None:
        """`what` is said to a client for whom there is none.

        `reserved` places are for keys that hold less than an equal share of all of them.
        """
        self._number = self._free = number
        self._reserved = reserved
        self._what = what
        self._lock = Lock()
        self._held: Counter[str] = Counter()

    def take(self, key: str = "") -> Callable[[], None]:
        """Take a place and return what gives it back, which may be called more than once.

        Raises ApiError 503 when there is none, and 429 for a key whose share is used up.
        """
        with self._lock:
            if self._free <= self._reserved and not self._holds_little(key):
                raise ApiError(429, BEYOND_SHARE, code="too_many_runs", retry_after_s=RETRY_S)
            if self._free == 0:
                raise ApiError(503, self._what, code="overloaded", retry_after_s=RETRY_S)
            self._free -= 1
            self._held[key] += 1
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            with self._lock:
                if given_back:
                    return
                given_back = True
                self._free += 1
                self._held[key] -= 1
                if not self._held[key]:
                    del self._held[key]

        return give_back

    def _holds_little(self, key: str) -> bool:
        """Return whether the key holds less than an equal share; one key alone shares with the next to come."""
        held = self._held.get(key, 0)
        sharers = max(2, len(self._held) + (not held))
        return not self._reserved or held * sharers < self._number

    def take_to_send(self, size: int) -> Callable[[], None]:
        """A place for an answer of `size` bytes, where one can be kept waiting by it. Raises ApiError 503."""
        return self.take() if size > SMALL_BYTES else _nothing


def _nothing() -> None:
    """No place was taken."""

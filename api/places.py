"""How many threads may be held by what takes long: runs that are waited for, and readers that take their time.

A thread serves one connection, so whoever waits or reads slowly holds one. These bounds leave the rest of them
to what is answered at once: health, cancel, a look at a run.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from api.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_S = 2
#: A smaller answer fits into the socket's buffer: however slowly it is read, no thread waits for that.
SMALL_BYTES = 64 * 1024


class Places:
    """A bounded number of places, each given back once."""

    def __init__(self, number: int, what: str) -> None:
        """`what` is said to a client for whom there is none."""
        self._free = number
        self._what = what
        self._lock = Lock()

    def take(self) -> Callable[[], None]:
        """A place: what gives it back, which may be called more than once. Raises ApiError 503."""
        with self._lock:
            if self._free == 0:
                raise ApiError(503, self._what, code="overloaded", retry_after_s=RETRY_S)
            self._free -= 1
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            with self._lock:
                self._free += not given_back
                given_back = True

        return give_back

    def take_to_send(self, size: int) -> Callable[[], None]:
        """A place for an answer of `size` bytes, where one can be kept waiting by it. Raises ApiError 503."""
        return self.take() if size > SMALL_BYTES else _nothing


def _nothing() -> None:
    """No place was taken."""

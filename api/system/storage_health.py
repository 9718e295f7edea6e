"""Check that the stores answer, at a bounded rate: anybody may ask for the result without a token."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING

from storage.errors import StorageError

if TYPE_CHECKING:
    from storage.areas import ApiAreas

#: Seconds for which an answer is reused.
KEPT_S = 2.0


class StorageHealth:
    """The last answer of both stores. One thread at a time asks; the others get the last answer."""

    def __init__(self, areas: ApiAreas) -> None:
        self._areas = areas
        self._lock = Lock()
        self._good = True
        self._asked_at = float("-inf")

    def good(self) -> bool:
        """Return whether both stores answered the last check."""
        if time.monotonic() - self._asked_at > KEPT_S and self._lock.acquire(blocking=False):
            try:
                self._good = self._ask()
                self._asked_at = time.monotonic()
            finally:
                self._lock.release()
        return self._good

    def _ask(self) -> bool:
        try:
            self._areas.uploads.check()
            self._areas.artifacts.check()
        except StorageError:
            return False
        return True

"""Keep the bytes of compiled functions that are called often: to read and check one takes milliseconds."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

#: The largest program that is kept, and the most bytes of all.
LARGEST_BYTES = 8 * 1024 * 1024
MOST_BYTES = 32 * 1024 * 1024


class KeptPrograms:
    """Programs by their hash, the one used last kept longest. Safe for many threads."""

    def __init__(self, most_bytes: int = MOST_BYTES, largest_bytes: int = LARGEST_BYTES) -> None:
        self._most_bytes, self._largest_bytes = most_bytes, largest_bytes
        self._lock = Lock()
        self._programs: OrderedDict[str, tuple[bytes, ...]] = OrderedDict()
        self._bytes = 0

    def get(self, sha256: str) -> tuple[bytes, ...] | None:
        """Return the pieces of a program; None if it is not kept."""
        with self._lock:
            found = self._programs.get(sha256)
            if found is not None:
                self._programs.move_to_end(sha256)
            return found

    def may_keep(self, size: int) -> bool:
        """Return whether a program of that size would be kept."""
        return size <= self._largest_bytes

    def keep(self, sha256: str, pieces: tuple[bytes, ...]) -> None:
        """Keep a program whose hash was checked, in place of those that were not used for longest."""
        with self._lock:
            if sha256 in self._programs:
                return
            self._programs[sha256] = pieces
            self._bytes += _size(pieces)
            while self._bytes > self._most_bytes:
                _, dropped = self._programs.popitem(last=False)
                self._bytes -= _size(dropped)


def _size(pieces: tuple[bytes, ...]) -> int:
    return sum(map(len, pieces))

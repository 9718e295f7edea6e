"""The bytes of output that are kept of all processes of all sessions together."""

from __future__ import annotations

import threading


class OutputBudget:
    """A number of bytes that all processes share. Safe from any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._used = 0

    def change(self, size: int) -> int:
        """Count so many bytes more, or less. Returns how many are kept beyond what may be."""
        with self._lock:
            self._used += size
            return max(0, self._used - self._most)

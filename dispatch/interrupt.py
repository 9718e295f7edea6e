"""End what waits for the worker, from another thread: a pipe whose writing end is closed."""

from __future__ import annotations

import os
import threading


class Interrupt:
    """One interruption. The thread that waits closes it."""

    def __init__(self) -> None:
        #: It hangs up when the interruption comes.
        self.fd, self._end = os.pipe()
        self._lock = threading.Lock()
        self._is_set = False

    def set(self) -> None:
        """Interrupt; without effect the second time. For any thread."""
        with self._lock:
            if not self._is_set:
                self._is_set = True
                os.close(self._end)

    def another_fd(self) -> int:
        """Return a descriptor for one more thread to wait for, which that thread closes. Not after `close`."""
        return os.dup(self.fd)

    def close(self) -> None:
        """Close both ends; `fd` must not be waited for any more."""
        self.set()
        os.close(self.fd)

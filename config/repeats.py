"""Log lines that would come again and again: the first is written at once, then one a minute with their number."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

QUIET_S = 60.0
#: Keys that are remembered: one that is forgotten is written at once when it comes again.
MOST_KEYS = 256


class RepeatedLog:
    """Writes to a logger, each key at most once in QUIET_S. Safe to use from several threads."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        #: By key, when it was written last and how often it has come since.
        self._written: dict[str, tuple[float, int]] = {}

    def log(self, level: int, message: str, *arguments: object, key: str = "", **extra: Any) -> None:  # noqa: ANN401
        """Write a line with `times`, how often it came since the last one that was written, itself included.

        `key` separates subjects with the same message, such as two languages; the message's arguments may differ.
        """
        times = self._times(f"{message}\0{key}")
        if times:
            self._logger.log(level, message, *arguments, extra={**extra, "times": times})

    def _times(self, key: str) -> int:
        """Count one more, and return the number to report; 0 while it must be silent."""
        now = self._clock()
        with self._lock:
            written_at, silent = self._written.get(key, (float("-inf"), 0))
            if now - written_at < QUIET_S:
                self._written[key] = (written_at, silent + 1)
                return 0
            self._written.pop(key, None)
            while len(self._written) >= MOST_KEYS:
                self._written.pop(next(iter(self._written)))
            self._written[key] = (now, 0)
            return silent + 1

"""The parts that a process of api starts and stops: pairs in one list, started in order, stopped in reverse."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: All stops together. The supervisor gives api three seconds to end (`ops.supervisor`).
STOP_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    start: Callable[[], None]
    stop: Callable[[], None]


class Lifecycle:
    """The start/stop pairs of one process. Used by one thread; to be started after a fork."""

    def __init__(self) -> None:
        self._pairs: list[_Pair] = []
        self._started: list[_Pair] = []

    def add(self, name: str, start: Callable[[], None], stop: Callable[[], None]) -> None:
        """Add a pair behind those that were added before. `stop` may wait for what it stops."""
        self._pairs.append(_Pair(name, start, stop))

    def start(self) -> None:
        """Call each start in order. If one of them fails, stop those before it and raise what it raised."""
        for pair in self._pairs:
            try:
                pair.start()
            except BaseException:
                self.stop()
                raise
            self._started.append(pair)

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Call each stop in reverse order, and wait `within_s` for all of them. Without effect the second time.

        Each stop runs on a thread of its own: one that takes longer does not keep the others from being called.
        """
        deadline = time.monotonic() + within_s
        while self._started:
            pair = self._started.pop()
            thread = Thread(target=_stop, args=(pair,), name=f"stop-{pair.name}", daemon=True)
            thread.start()
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("%s did not stop in time; the process ends without it", pair.name)


def _stop(pair: _Pair) -> None:
    try:
        pair.stop()
    except Exception:
        log.exception("%s could not be stopped", pair.name)

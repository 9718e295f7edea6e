"""A moment's delay, for work that would slow down an answer which is on its way.

Waking a thread costs the running thread the interpreter's lock and, on a small machine, a processor. A timerfd
wakes it a little later with one system call.
"""

from __future__ import annotations

import os
import threading

from sandbox.engines.syscalls import set_timer, timer

IMMEDIATELY_S = 1e-6


class DelayedWakeup:
    """Lets one thread sleep until a pause has gone by since it was asked for."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._timer = timer()
        self._asked = False
        self._ended = False
        self._lock = threading.Lock()

    def request(self) -> None:
        """Have the thread go on in a moment. Asked again before that, it does so no later."""
        if not self._asked:
            self._asked = True
            self._set(self._pause_s)

    def wait(self) -> bool:
        """Sleep until that moment. Returns False when there will be no further request."""
        os.read(self._timer, 8)
        self._asked = False
        if not self._ended:
            return True
        with self._lock:
            os.close(self._timer)
            self._timer = -1
        return False

    def end(self) -> None:
        """Wake the thread for the last time, now."""
        self._ended = True
        self._set(IMMEDIATELY_S)

    def _set(self, seconds: float) -> None:
        with self._lock:
            if self._timer >= 0:
                set_timer(self._timer, seconds)

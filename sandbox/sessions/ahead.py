"""Start the kernels of new sessions before their first run, while no session is being created.

A kernel that is a fork of the sandbox's interpreter takes a few milliseconds and megabytes. It is no context yet,
and becomes that of the first run, if there is one. While sessions are created without a pause, none is started.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from sandbox.sessions.session import SessionGone
from sandbox.sessions.stream import TooManyChannels

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.sessions.session import LiveSession

#: Seconds after the last creation, and between two kernels.
QUIET_S = 0.02
SPACING_S = 0.02
#: Sessions that wait; beyond this the oldest starts its kernel when it is used.
MOST_WAITING = 64


class KernelStarter:
    """The thread that starts them. `add` is for any thread."""

    def __init__(self, may_start: Callable[[], bool] = lambda: True) -> None:
        """`may_start` returns whether there is memory for one more."""
        self._may_start = may_start
        self._change = threading.Condition()
        self._waiting: deque[LiveSession] = deque(maxlen=MOST_WAITING)
        self._quiet_at = 0.0
        self._is_stopping = False
        self._thread = threading.Thread(target=self._serve, name="kernels-ahead", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        with self._change:
            self._is_stopping = True
            self._change.notify_all()
        self._thread.join()

    def add(self, session: LiveSession) -> None:
        """Have the kernel of a session that was created just now started soon."""
        with self._change:
            self._waiting.append(session)
            self._quiet_at = time.monotonic() + QUIET_S
            self._change.notify_all()

    def _serve(self) -> None:
        while (session := self._next()) is not None:
            if not self._may_start():
                continue
            with suppress(SessionGone, TooManyChannels):
                session.contexts.start_ahead()

    def _next(self) -> LiveSession | None:
        """Wait for a session whose kernel may be started now; None at the end."""
        with self._change:
            while not self._is_stopping:
                wait_s = self._quiet_at - time.monotonic() if self._waiting else None
                if wait_s is not None and wait_s <= 0:
                    self._quiet_at = time.monotonic() + SPACING_S
                    return self._waiting.popleft()
                self._change.wait(wait_s)
            return None

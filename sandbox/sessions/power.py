"""Freeze and thaw the processes of one session, and count the memory that it is charged for."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from protocol.limits import MIB
from sandbox.engines import EngineError
from sandbox.sessions.memory import WAIT_S, NoMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.engines import Sandbox
    from sandbox.engines.cgroups.freezer import Freezer
    from sandbox.sessions.memory import SessionMemory
    from sandbox.sessions.watch import FrozenWatch

log = logging.getLogger(__name__)

#: A session that the kernel could not freeze is not tried again for this many seconds.
PAUSE_S = 60.0


class Power:
    """Freezes and thaws one session. Safe from any thread."""

    def __init__(self, memory: SessionMemory, limit_mb: int, watch: FrozenWatch | None = None) -> None:
        """`limit_mb` of `memory` have been taken for it; `watch` gets the groups to thaw when this process dies."""
        self._memory = memory
        self._limit_mb = self._charged_mb = limit_mb
        self._watch = watch
        self._sandbox: Sandbox | None = None
        self._freezer: Freezer | None = None
        #: Held while it is frozen or thawed.
        self._lock = threading.Lock()
        self._is_over = False
        #: Called when it has been frozen.
        self.on_frozen: Callable[[], None] = lambda: None
        self._frozen = False
        #: The number of times that it has been frozen.
        self.freezes = 0
        self._tried_at = float("-inf")
        self._awake_s = 0.0
        self._awake_since = time.monotonic()
        self._charged_mb_s = 0.0
        self._charged_since = self._awake_since

    def attach(self, sandbox: Sandbox) -> None:
        """Take the sandbox, in which no program runs yet."""
        self._sandbox = sandbox
        self._freezer = sandbox.open_freezer()

    @property
    def is_frozen(self) -> bool:
        """Return whether the kernel has stopped all processes."""
        return self._frozen

    @property
    def charged_mb(self) -> int:
        """Return the memory that it is charged for."""
        return self._charged_mb

    @property
    def charged_mb_ms(self) -> int:
        """Return the memory that it was charged for until now, by its time."""
        now = time.monotonic()
        return round((self._charged_mb_s + self._charged_mb * (now - self._charged_since)) * 1000)

    @property
    def awake_ms(self) -> int:
        """Return how long its processes could run until now."""
        running_s = 0.0 if self._frozen or self._is_over else time.monotonic() - self._awake_since
        return round((self._awake_s + running_s) * 1000)

    def freeze(self, may: Callable[[], bool], *, waits: bool = True) -> bool:
        """Freeze it if `may` says so once nobody else freezes or thaws it. Returns whether it is frozen.

        Without `waits` one that is about to be frozen or thawed is left alone.
        """
        if not self._lock.acquire(blocking=waits):
            return False
        try:
            if self._frozen:
                return True
            if self._is_over or time.monotonic() - self._tried_at < PAUSE_S or not may():
                return False
            return self._freeze()
        finally:
            self._lock.release()

    def _freeze(self) -> bool:
        if self._freezer is None or self._sandbox is None:
            return False
        if self._watch is not None:
            self._watch.add(self._freezer)
        try:
            is_frozen = self._freezer.freeze()
            held_mb = -(-self._sandbox.held_bytes() // MIB)
        except (OSError, EngineError) as e:
            log.info("a session was not frozen", extra={"reason": str(e)})
            self._tried_at = time.monotonic()
            self._let_go()
            return False
        if not is_frozen:
            self._tried_at = time.monotonic()
            return False
        self._awake_s += time.monotonic() - self._awake_since
        self.freezes += 1
        self._frozen = True
        self.on_frozen()
        self._charge(min(held_mb, self._limit_mb))
        return True

    def thaw(self, take: Callable[[int], None] | None = None) -> None:
        """Let it go on, once `take` has got the memory for it. Raises what `take` does, or else NoMemory.

        One that is being frozen just now is thawed again: its caller may use it after that.
        """
        while True:
            with self._lock:
                if self._needs_no_thawing():
                    return
                missing_mb = self._limit_mb - self._charged_mb
            (take or self._take)(missing_mb)
            with self._lock:
                if self._needs_no_thawing():
                    self._memory.give(missing_mb)
                    return
                if self._charged_mb + missing_mb != self._limit_mb:  # thawed and frozen in between
                    self._memory.give(missing_mb)
                    continue
                self._set_charged(self._limit_mb)
                self._let_go()
                self._awake_since = time.monotonic()
                self._frozen = False

    def _needs_no_thawing(self) -> bool:
        return not self._frozen or self._is_over

    def _take(self, memory_mb: int) -> None:
        self._memory.take(memory_mb, WAIT_S)

    def close(self) -> None:
        """Return the memory, when the sandbox has been killed. Without effect when repeated."""
        with self._lock:
            if self._is_over:
                return
            if not self._frozen:
                self._awake_s += time.monotonic() - self._awake_since
            self._is_over = True
            self._charge(0)
            if self._watch is not None and self._freezer is not None:
                self._watch.remove(self._freezer)

    def _let_go(self) -> None:
        assert self._freezer is not None
        try:
            self._freezer.thaw()
        except (OSError, EngineError) as e:
            raise NoMemory(f"a session was not thawed: {e}") from e
        if self._watch is not None:
            self._watch.remove(self._freezer)

    def _charge(self, memory_mb: int) -> None:
        given = self._charged_mb - memory_mb
        self._set_charged(memory_mb)
        if given > 0:
            self._memory.give(given)

    def _set_charged(self, memory_mb: int) -> None:
        now = time.monotonic()
        self._charged_mb_s += self._charged_mb * (now - self._charged_since)
        self._charged_since, self._charged_mb = now, memory_mb

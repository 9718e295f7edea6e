"""One session while it lives: its sandbox, what is under way in it, and when it ends by itself."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from config.clock import now
from protocol.limits import MIB
from protocol.session import MOST_WAITING
from sandbox.engines import EngineError
from sandbox.sessions.processes import ProcessTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from protocol.limits import Limits
    from protocol.result import Isolation
    from protocol.session import EndReason, SessionSpec
    from sandbox.engines import Sandbox
    from sandbox.languages import Language
    from sandbox.pool.warm_pool import WarmPool
    from sandbox.sessions.stream import SessionStream


#: Between two looks whether a run that waits for others is still wanted.
WAIT_LOOK_S = 0.1


class SessionBusy(Exception):
    """So many runs wait in the session already."""


class SessionGone(Exception):
    """The session has ended."""


class LiveSession:
    """A session that has its sandbox. Safe from any thread."""

    def __init__(
        self, spec: SessionSpec, language: Language, limits: Limits, pool: WarmPool, resources: ExitStack
    ) -> None:
        """`resources` gives back what the session holds; it is closed once, by `end`."""
        self.spec = spec
        self.language = language
        self.limits = limits
        self.pool = pool
        self.created_at = now()
        self.last_active_at = self.created_at
        self.runs = 0
        self.end_reason: EndReason | None = None
        self.ended_at: str | None = None
        self.processes: ProcessTable
        self._sandbox: Sandbox | None = None
        self._stream: SessionStream | None = None
        self._resources = resources
        self._created = self._active = time.monotonic()
        self._change = threading.Condition()
        #: What keeps it active: a run, an open stream, a process that is waited for.
        self._uses = 0
        self._queue: deque[object] = deque()
        self._usage: dict[str, Any] = {"memory_mb": 0, "disk_mb": 0, "cpu_ms": 0, "processes": 0, "egress_bytes": 0}

    @property
    def id(self) -> str:
        return self.spec.session_id

    def attach(self, sandbox: Sandbox, stream: SessionStream) -> None:
        """Give the session its sandbox."""
        self._sandbox, self._stream = sandbox, stream
        self.processes = ProcessTable(self)

    @property
    def sandbox(self) -> Sandbox:
        """Return the sandbox. Raises SessionGone."""
        if self._sandbox is None or self.end_reason is not None:
            raise SessionGone
        return self._sandbox

    @property
    def stream(self) -> SessionStream:
        """Return the stream of the sandbox. Raises SessionGone."""
        if self._stream is None or self.end_reason is not None:
            raise SessionGone
        return self._stream

    @property
    def isolation(self) -> Isolation:
        """Return the confinement in force. Raises SessionGone."""
        return self.sandbox.facts()

    # -- activity ----------------------------------------------------------------------------------

    def touch(self) -> None:
        """Count a call as activity. Raises SessionGone."""
        with self._change:
            self._check()
            self._active, self.last_active_at = time.monotonic(), now()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the session active while something is under way in it. Raises SessionGone."""
        with self._change:
            self._check()
            self._uses += 1
        try:
            yield
        finally:
            with self._change:
                self._uses -= 1
                self._active, self.last_active_at = time.monotonic(), now()

    @contextmanager
    def in_order(self, may_wait: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the runs that came before, and keep others waiting; yields False when `may_wait` said no.

        That is asked now and then while it waits. Raises SessionBusy, SessionGone.
        """
        turn = object()
        with self._change:
            self._check()
            if len(self._queue) > MOST_WAITING:
                raise SessionBusy
            self._queue.append(turn)
        try:
            waits = True
            while waits and (waits := may_wait()):
                with self._change:
                    if self._change.wait_for(lambda: self._is_next(turn), WAIT_LOOK_S):
                        break
            self._check()
            yield waits
        finally:
            with self._change:
                self._queue.remove(turn)
                self._change.notify_all()

    def _is_next(self, turn: object) -> bool:
        return self._queue[0] is turn or self.end_reason is not None

    def _check(self) -> None:
        if self.end_reason is not None:
            raise SessionGone

    # -- its end -----------------------------------------------------------------------------------

    def due(self) -> tuple[float, EndReason]:
        """Return when it ends by itself, in monotonic seconds, and why, as things stand."""
        aged = self._created + self.spec.max_age_s
        with self._change:
            idle = self._active + self.spec.idle_timeout_s
            return (aged, "age") if self._uses or aged <= idle else (idle, "idle")

    def end(self, reason: EndReason) -> bool:
        """End it: kill its sandbox and give everything back. Returns False if it had ended already."""
        with self._change:
            if self.end_reason is not None:
                return False
            self._usage = self._measure()
            self.end_reason, self.ended_at = reason, now()
            self._change.notify_all()
        if self._sandbox is not None:
            self._sandbox.kill()
        if self._stream is not None:
            self._stream.lose(reason)
        self._resources.close()
        return True

    # -- facts -------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return what changes while it lives, for the session's object."""
        with self._change:
            ended = self.end_reason is not None
            usage = self._usage if ended else self._measure()
            return {
                "id": self.id,
                "status": "ended" if ended else "busy" if self._uses else "ready",
                "runs": self.runs,
                "usage": usage,
                "last_active_at": self.last_active_at,
                "expires_in_ms": 0 if ended else round((min(self._due_times()) - time.monotonic()) * 1000),
                "ended_at": self.ended_at,
                "end_reason": self.end_reason,
            }

    def _due_times(self) -> tuple[float, float]:
        return self._created + self.spec.max_age_s, self._active + self.spec.idle_timeout_s

    def _measure(self) -> dict[str, Any]:
        if self._sandbox is None or self._stream is None:
            return self._usage
        try:
            stats = self._sandbox.stats()
        except (EngineError, OSError):
            return self._usage
        return self._usage | {
            "memory_mb": -(-stats.memory_peak_bytes // MIB),
            "cpu_ms": round(stats.cpu_ns / 1e6),
            "processes": self._stream.open_channels,
        }

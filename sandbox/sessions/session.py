"""One session while it lives: its sandbox, what is under way in it, and when it ends by itself."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from config.clock import now
from sandbox.engines import EngineError
from sandbox.sessions.contexts import ContextTable
from sandbox.sessions.group_usage import GroupUsage
from sandbox.sessions.memory import NoMemory
from sandbox.sessions.order import RunOrder
from sandbox.sessions.processes import ProcessTable
from sandbox.sessions.watchers import WatcherTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from protocol.limits import Limits
    from protocol.network import NetworkAccess
    from protocol.result import Isolation
    from protocol.session import EndReason, SessionChange, SessionSpec, SessionStatus
    from sandbox.engines import Sandbox
    from sandbox.engines.work_disk import WorkDisk
    from sandbox.languages import Language
    from sandbox.pool.warm_pool import WarmPool
    from sandbox.run.package_layers import ReadyLayer
    from sandbox.sessions.output_budget import OutputBudget
    from sandbox.sessions.outputs import KeptListing
    from sandbox.sessions.power import Power
    from sandbox.sessions.stream import SessionStream


class SessionGone(Exception):
    """The session has ended."""


class SessionPaused(Exception):
    """The session is paused: nothing runs in it until it is resumed."""


class LiveSession:
    """A session that has its sandbox. Safe from any thread."""

    def __init__(
        self,
        spec: SessionSpec,
        language: Language,
        limits: Limits,
        pool: WarmPool,
        resources: ExitStack,
        power: Power,
        budget: OutputBudget,
    ) -> None:
        """`resources` releases what the session holds; it is closed once, by `end`. `budget` is of output."""
        self._budget = budget
        self.spec = spec
        self.power = power
        self.language = language
        self.limits = limits
        self.pool = pool
        #: The layer of its packages, which its resources hold.
        self.layer: ReadyLayer | None = None
        self.created_at = now()
        self.last_active_at = self.created_at
        self.runs = 0
        #: The files that its last run has left beneath outputs.
        self.kept_listing: KeptListing | None = None
        self.end_reason: EndReason | None = None
        self.ended_at: str | None = None
        self.processes: ProcessTable
        self.contexts: ContextTable
        self.watchers: WatcherTable
        self._sandbox: Sandbox | None = None
        self._stream: SessionStream | None = None
        self._work_disk: WorkDisk | None = None
        self._resources = resources
        self._created = self._active = time.monotonic()
        self._change = threading.Condition()
        #: The uses that keep it active: a run, an open stream, a process that is waited for. And those of them
        #: that a pause would break: runs and file operations.
        self._uses = self._works = 0
        self._is_paused = False
        #: Held while it is paused or resumed: between the two it would be frozen with something under way in it.
        self._turning = threading.Lock()
        #: Held while the hosts that it may reach are replaced.
        self.changing_network = threading.Lock()
        #: The fixed end that was asked for, in monotonic seconds; None if none was.
        self._expires: float | None = None
        self._expire_in(spec.expires_in_s)
        #: Of runs that are processes, in a language without kernels.
        self.order = RunOrder()
        self._group_usage = GroupUsage(power)
        self._usage: dict[str, Any] = {"memory_mb": 0, "disk_mb": 0, "cpu_ms": 0, "processes": 0, "egress_bytes": 0}

    @property
    def id(self) -> str:
        return self.spec.session_id

    def attach(self, sandbox: Sandbox, stream: SessionStream) -> None:
        """Give the session its sandbox."""
        self._sandbox, self._stream = sandbox, stream
        self._work_disk = sandbox.open_work_disk()
        stream.workdir = self.spec.workdir.encode()
        self.processes = ProcessTable(self, self._budget)
        self.contexts = ContextTable(self)
        self.watchers = WatcherTable(self)
        stream.before_kill = self._thaw_to_kill
        self.power.on_frozen = stream.drop_connections

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
        facts = self.sandbox.facts()
        return facts if self.spec.network is None else replace(facts, network="proxy")

    # -- activity ----------------------------------------------------------------------------------

    @contextmanager
    def in_use(self, *, waits: bool = False, take: Callable[[int], None] | None = None) -> Iterator[None]:
        """Keep the session active while something is under way in it, after thawing it.

        `waits` is for what only waits for its processes, and may go on waiting while it is paused. `take` gets the
        memory that it needs again after it was frozen. Raises SessionGone, SessionPaused, NoMemory, or what `take`
        does.
        """
        with self._change:
            self._check_usable()
            self._uses += 1
            self._works += not waits
        try:
            self.power.thaw(take)
            with self._change:
                self._check_usable()
                self._note_activity()
            try:
                yield
            finally:
                self._note_activity()
        finally:
            with self._change:
                self._uses -= 1
                self._works -= not waits

    def _note_activity(self) -> None:
        self._active, self.last_active_at = time.monotonic(), now()

    def _check_usable(self) -> None:
        self.check_alive()
        if self._is_paused:
            raise SessionPaused

    def _thaw_to_kill(self) -> None:
        """Thaw it for the end of a process that is out of time: no activity. A paused one waits for it."""
        if not self._is_paused:
            with suppress(NoMemory):  # it is read later, then
                self.power.thaw()

    def check_alive(self) -> None:
        """Raise SessionGone if it has ended."""
        if self.end_reason is not None:
            raise SessionGone

    # -- rest --------------------------------------------------------------------------------------

    @property
    def keeps_awake(self) -> bool:
        """Return whether the session must not be frozen: a process with `keep_awake` lives in it."""
        return self._stream is not None and self.processes.keep_awake

    @property
    def idle_since(self) -> float:
        """Return when it was used last, in monotonic seconds."""
        return self._active

    @property
    def is_paused(self) -> bool:
        """Return whether nothing runs in it until it is resumed."""
        return self._is_paused

    @property
    def is_in_use(self) -> bool:
        """Return whether anything is under way in it."""
        return self._uses > 0

    def may_freeze(self) -> bool:
        """Return whether nothing is under way in it, and its client lets it be frozen."""
        with self._change:
            idle = not self._uses and not self._is_paused and self.end_reason is None
        return idle and self.spec.freeze_after_s > 0 and not self.keeps_awake

    def freezes_at(self) -> float:
        """Return when it is to be frozen, as things stand."""
        return self._active + self.spec.freeze_after_s

    def pause(self, *, if_idle: bool = False) -> bool:
        """Stop everything until `resume`. Returns False if a run or a file operation is under way, or the kernel
        cannot; with `if_idle` also if anything else is. Raises SessionGone.
        """
        with self._turning:
            return self._pause(if_idle=if_idle)

    def _pause(self, *, if_idle: bool) -> bool:
        with self._change:
            self.check_alive()
            if self._is_paused:
                return True
            if self._works or (if_idle and self._uses):
                return False
            self._is_paused = True
        if self.power.freeze(lambda: True):
            return True
        with self._change:
            self._is_paused = False
        return False

    def resume(self) -> None:
        """Let it go on; that counts as activity. Raises SessionGone, NoMemory."""
        with self._turning:
            self._resume()

    def _resume(self) -> None:
        with self._change:
            self.check_alive()
            if not self._is_paused:
                return
        self.power.thaw()
        with self._change:
            self._is_paused = False
            if self._expires is not None and self._expires <= time.monotonic():
                self._expires = None
            self._note_activity()

    # -- its end -----------------------------------------------------------------------------------

    def change(self, change: SessionChange) -> None:
        """Change what it was created with. Raises SessionGone."""
        with self._change:
            self.check_alive()
            self.spec = replace(self.spec, **change.fields())
            if change.idle_timeout_s is not None:
                self._expires = None
            self._expire_in(change.expires_in_s)

    def note_network(self, access: NetworkAccess) -> None:
        """Note the hosts that its programs may reach from now on."""
        with self._change:
            self.spec = replace(self.spec, network=access)

    def _expire_in(self, seconds: int | None) -> None:
        if seconds is not None:
            self._expires = time.monotonic() + seconds

    def due(self) -> tuple[float, EndReason]:
        """Return when it ends by itself, in monotonic seconds, and why, as things stand."""
        with self._change:
            aged, idle = self._due_times()
            if self._is_paused or (self._uses and self._expires is None) or aged <= idle:
                return aged, "age"
            return idle, "idle"

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
            self.processes.close()
            self.contexts.close()
        self._resources.close()
        return True

    def wait_for_end(self, timeout_s: float) -> None:
        """Wait until it has ended: one whose sandbox has hung up is ended by another thread, which knows why."""
        with self._change:
            self._change.wait_for(lambda: self.end_reason is not None, timeout_s)

    # -- facts -------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return what changes while it lives, for the session's object."""
        with self._change:
            ended = self.end_reason is not None
            usage = self._usage if ended else self._measure()
            return {
                "id": self.id,
                "status": "ended" if ended else self._status(),
                "runs": self.runs,
                "limits": {
                    "memory_mb": self.limits.memory_mb,
                    "cpus": self.limits.cpus,
                    "pids": self.limits.pids,
                    "disk_mb": self.spec.limits["disk_mb"],
                },
                "usage": usage,
                "layer": None if self.layer is None else self.layer.id,
                "last_active_at": self.last_active_at,
                "awake_ms": self.power.awake_ms,
                "charged_mb_ms": self.power.charged_mb_ms,
                "expires_in_ms": 0 if ended else round((self._ends_at() - time.monotonic()) * 1000),
                "ended_at": self.ended_at,
                "end_reason": self.end_reason,
            }

    def _status(self) -> SessionStatus:
        if self._is_paused:
            return "paused"
        if self._uses:
            return "busy"
        return "frozen" if self.power.is_frozen else "ready"

    def _due_times(self) -> tuple[float, float]:
        idle = self._active + self.spec.idle_timeout_s if self._expires is None else self._expires
        return self._created + self.spec.max_age_s, idle

    def _ends_at(self) -> float:
        aged, idle = self._due_times()
        return aged if self._is_paused else min(aged, idle)

    def _measure(self) -> dict[str, Any]:
        if self._sandbox is None or self._stream is None:
            return self._usage
        try:
            used = self._group_usage.read(self._sandbox, self._work_disk)
        except (EngineError, OSError):
            return self._usage
        return used | {
            "processes": self._stream.open_channels,
            "egress_bytes": 0 if self._stream.network is None else self._stream.network.moved_bytes,
        }

"""The sessions of one worker: created from its pools, ended when they are idle, old, broken or not wanted."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from protocol.limits import COMPILE_PIDS, MIB, JobInvalid, Limits
from protocol.network import proxy_environment
from protocol.result import Refusal
from protocol.session import SESSION_LIMITS
from sandbox.engines import EngineError
from sandbox.languages import KERNEL_FLAVOUR
from sandbox.network.relay import NetworkRelay
from sandbox.pool.warm_pool import NotReady
from sandbox.refusals import STOPPING
from sandbox.run.plan import check_network, check_packages
from sandbox.sessions.ahead import KernelStarter
from sandbox.sessions.entry import enter_session
from sandbox.sessions.hub import SessionHub
from sandbox.sessions.layer import hold_layer
from sandbox.sessions.loss import note_loss, reason_of_loss
from sandbox.sessions.memory import NoMemory, SessionMemory
from sandbox.sessions.output_budget import OutputBudget
from sandbox.sessions.power import Power
from sandbox.sessions.session import LiveSession, SessionGone
from sandbox.sessions.stream import MOST_CHANNELS, MOST_PROCESSES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from protocol.session import EndReason, SessionSpec
    from sandbox.admission.control import Admission
    from sandbox.languages import Catalogue, Language
    from sandbox.lock_watch import LockWatch
    from sandbox.pool.warm_pool import WarmPool
    from sandbox.run.package_layers import LayerSupply, ReadyLayer
    from sandbox.sessions.watch import FrozenWatch

log = logging.getLogger(__name__)

NOT_WANTED = Refusal(410, "this session was ended while it was created", "session_ended")
RETRY_S = 5
RETRY_NOT_READY_S = 30
#: At least so often it is looked which sessions are idle or too old.
TICK_S = 1.0
#: Processes of file operations and watches, beside those that programs may have.
OPERATION_PIDS = MOST_CHANNELS - MOST_PROCESSES
#: Facts of sessions that have ended are kept for api, which may be restarting.
ENDS_KEPT = 4096


class SessionTable:
    """All sessions by id. `start` once; safe from any thread."""

    def __init__(
        self,
        catalogue: Catalogue,
        pool: WarmPool,
        admission: Admission,
        gvisor: WarmPool | None,
        *,
        locks: LockWatch,
        memory: SessionMemory,
        hub: SessionHub,
        most: int,
        output_mb: int,
        watch: FrozenWatch | None = None,
        egress: Path | None = None,
        layers: LayerSupply | None = None,
    ) -> None:
        """`most` sessions may live at a time, which are charged for `memory` together; `hub` moves their bytes.

        `output_mb` is kept of the output of all their processes. `watch` lets what is frozen die with this process.
        `egress` is the socket of the egress process; None where no session may reach anything. `layers` has the
        packages of sessions; None where none may have any.
        """
        self._layers = layers
        self.egress = egress
        self._catalogue = catalogue
        self._pool = pool
        self._gvisor = gvisor
        self._admission = admission
        self._locks = locks
        self._most = most
        self._watch = watch
        self._output = OutputBudget(output_mb * MIB)
        self.memory = memory
        self.memory.idle = self._idle
        self.hub = hub
        self._starter = KernelStarter(lambda: not admission.lacks_memory())
        self._lock = threading.Lock()
        self._live: dict[str, LiveSession] = {}
        #: Sessions by key, those that are being created among them.
        self._counted: Counter[str] = Counter()
        #: The keys of the sessions that are being created, and those of them that were deleted meanwhile.
        self._creating: dict[str, str] = {}
        self._unwanted: set[str] = set()
        self._ended: OrderedDict[str, dict[str, Any]] = OrderedDict()
        #: Called with the facts of each session that ends.
        self.on_end: Callable[[dict[str, Any]], None] = lambda _facts: None
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="session-ends", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self.hub.start()
        self._starter.start()
        self._ticker.start()

    def close(self) -> None:
        """End every session and the threads."""
        self._stopping.set()
        self._starter.stop()
        for session in self.all():
            self.end(session.id, "shutdown")
        self._ticker.join()
        self.hub.stop()

    # -- looking -----------------------------------------------------------------------------------

    def get(self, session_id: str) -> LiveSession | None:
        """Return a session that lives."""
        with self._lock:
            return self._live.get(session_id)

    def all(self) -> list[LiveSession]:
        """Return the sessions that live."""
        with self._lock:
            return list(self._live.values())

    def facts(self, session_id: str) -> dict[str, Any] | None:
        """Return the facts of a session that lives or has ended not long ago."""
        session = self.get(session_id)
        if session is not None:
            return session.facts()
        with self._lock:
            return self._ended.get(session_id)

    def ends(self) -> list[dict[str, Any]]:
        """Return the facts of the sessions that have ended, as far as they are kept."""
        with self._lock:
            return list(self._ended.values())

    # -- creating ----------------------------------------------------------------------------------

    def create(
        self,
        spec: SessionSpec,
        *,
        on_output: Callable[[str], None] = lambda _line: None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> LiveSession | Refusal:
        """Create a session: a ready sandbox, put into session mode, its limits in force.

        Before that its packages are made ready: `on_output` is called with the tool's lines, and `is_wanted` asked
        at least every second.
        """
        with self._lock:
            self._creating[spec.session_id] = spec.key
        try:
            return self._create(spec, on_output, lambda: is_wanted() and self._may_begin(spec.session_id))
        finally:
            with self._lock:
                del self._creating[spec.session_id]
                self._unwanted.discard(spec.session_id)

    def abandon(self, session_id: str, key: str) -> bool:
        """Stop the creation of a key's session. Returns False if none of that id is being created."""
        with self._lock:
            if self._creating.get(session_id) != key:
                return False
            self._unwanted.add(session_id)
        return True

    def _may_begin(self, session_id: str) -> bool:
        return session_id not in self._unwanted and not self._stopping.is_set()

    def _create(
        self, spec: SessionSpec, on_output: Callable[[str], None], is_wanted: Callable[[], bool]
    ) -> LiveSession | Refusal:
        try:
            language, limits, pool = self._resolve(spec)
            pool.check(language)
        except JobInvalid as e:
            return Refusal(400, e.message, e.code, e.param)
        except NotReady:
            message = f"language: {spec.language} is known but not built yet"
            return Refusal(503, message, "language_not_ready", "language", RETRY_NOT_READY_S)
        if spec.network is not None and self.egress is None:
            return Refusal(403, "network: EGRESS is off here", "network_not_allowed", "network.allow")
        resources = ExitStack()
        try:
            held = self._held(spec, language, limits, resources, on_output, is_wanted)
        except BaseException:
            resources.close()
            raise
        if isinstance(held, Refusal):
            resources.close()
            return held
        power, layer = held
        session = LiveSession(spec, language, limits, pool, resources, power, self._output)
        session.layer = layer
        try:
            self._begin(session, resources)
        except SessionGone:
            resources.close()
            return NOT_WANTED
        except (EngineError, OSError, NotReady):
            log.exception("a session could not be created through the service's fault")
            resources.close()
            return Refusal(500, "the sandbox could not be provided; no session was created", "engine_error")
        except BaseException:
            resources.close()
            raise
        return session

    def _resolve(self, spec: SessionSpec) -> tuple[Language, Limits, WarmPool]:
        language = self._catalogue.get(spec.language)
        if language is None:
            known = ", ".join(self._catalogue.ids)
            raise JobInvalid(f"language: unknown; known are {known}", param="language", code="unknown_language")
        check_network(spec.network)
        check_packages(language.id, spec.packages)
        given = {name: spec.limits[name] for name in SESSION_LIMITS if name != "disk_mb"}
        if language.compiler is not None:  # it compiles in there
            given["memory_mb"] = max(given["memory_mb"], language.compiler.memory_mb)
            given["pids"] = max(given["pids"], COMPILE_PIDS)
        limits = Limits.resolve(given, pids_default=language.pids_default)
        if spec.isolation != "gvisor":
            return language, limits, self._pool
        if self._gvisor is None:
            raise JobInvalid(
                "isolation: gvisor is not available here; the service has no runsc",
                param="isolation",
                code="not_supported",
            )
        return language, limits, self._gvisor

    def _held(
        self,
        spec: SessionSpec,
        language: Language,
        limits: Limits,
        resources: ExitStack,
        on_output: Callable[[str], None],
        is_wanted: Callable[[], bool],
    ) -> tuple[Power, ReadyLayer | None] | Refusal:
        """Count a session, hold its layer and take its memory, until `resources` are closed.

        The layer comes before the memory: a build needs memory, too.
        """
        refusal = self._count(spec, resources)
        if refusal is not None:
            return refusal
        layer: ReadyLayer | None = None
        if spec.packages:
            found = hold_layer(self._layers, spec, language, resources, on_output, is_wanted)
            if found is None:
                return NOT_WANTED
            if isinstance(found, Refusal):
                return found
            layer = found
        power = self._reserve(limits.memory_mb, resources)
        return power if isinstance(power, Refusal) else (power, layer)

    def _count(self, spec: SessionSpec, resources: ExitStack) -> Refusal | None:
        """Count the session until `resources` are closed."""
        with self._lock:
            if self._stopping.is_set():
                return STOPPING
            if spec.most_sessions is not None and self._counted[spec.key] >= spec.most_sessions:
                message = f"this key may have {spec.most_sessions} live sessions; delete one first"
                return Refusal(429, message, "too_many_sessions", None, RETRY_S)
            if self._counted.total() >= self._most:
                message = "the maximum number of live sessions (MAX_SESSIONS) is reached"
                return Refusal(503, message, "overloaded", None, RETRY_S)
            self._counted[spec.key] += 1
        resources.callback(self._uncount, spec.key)
        return None

    def _reserve(self, memory_mb: int, resources: ExitStack) -> Power | Refusal:
        """Take the session's memory from what runs may use, until `resources` are closed."""
        try:
            self.memory.take(memory_mb)
        except NoMemory:
            return Refusal(503, "the memory for this session is in use", "overloaded", None, RETRY_S)
        power = Power(self.memory, memory_mb, self._watch)
        resources.callback(power.close)
        return power

    def _uncount(self, key: str) -> None:
        with self._lock:
            self._counted[key] -= 1
            if not self._counted[key]:
                del self._counted[key]

    def _begin(self, session: LiveSession, resources: ExitStack) -> None:
        spec, pool = session.spec, session.pool
        layer = session.layer
        if spec.isolation == "container":
            sandbox = pool.start_cold(session.language, layer=layer)
        else:
            sandbox, _ = pool.take(session.language, KERNEL_FLAVOUR, spec.key, layer=layer)
        resources.callback(pool.discard, sandbox)
        limits = replace(session.limits, pids=session.limits.pids + OPERATION_PIDS)
        if not sandbox.apply(limits, int(spec.limits["disk_mb"])):
            raise EngineError(f"a sandbox does not fit into {session.limits.memory_mb} MiB")
        session.power.attach(sandbox)
        resources.enter_context(self._locks.over(sandbox))
        relay, named = None, {"HOME": spec.workdir} | spec.env
        if spec.network is not None and self.egress is not None:
            relay = NetworkRelay(self.egress, spec.session_id, spec.key, spec.network)
            named = proxy_environment() | named
        env = {name.encode(): value.encode() for name, value in named.items()}
        stream = enter_session(
            sandbox, env, self.hub, lambda why: note_loss(session, partial(self.lose, why=why)), relay
        )
        resources.callback(self.hub.remove, stream)
        session.attach(sandbox, stream)
        with self._lock:
            if session.id in self._unwanted:
                raise SessionGone
            self._live[session.id] = session
        self._starter.add(session)

    # -- ending ------------------------------------------------------------------------------------

    def end(self, session_id: str, reason: EndReason) -> dict[str, Any] | None:
        """End a session; its facts, also of one that has ended before. None if there is none of that id."""
        session = self.get(session_id)
        if session is not None and session.end(reason):
            facts = session.facts()
            with self._lock:
                del self._live[session_id]
                self._ended[session_id] = facts
                while len(self._ended) > ENDS_KEPT:
                    self._ended.popitem(last=False)
            log.info("a session ended", extra={"session_id": session_id, "reason": reason})
            self.on_end(facts)
            return facts
        return self.facts(session_id)

    def lose(self, session: LiveSession, why: str) -> None:
        """End a session whose sandbox does not do what it must."""
        if session.end_reason is None:
            reason = reason_of_loss(session)
            log.info("a session's sandbox was lost", extra={"session_id": session.id, "cause": why})
            self.end(session.id, reason)

    def _tick(self) -> None:
        while not self._stopping.wait(TICK_S):
            moment = time.monotonic()
            for session in self.all():
                at, reason = session.due()
                if at > moment:
                    self._rest(session, moment)
                elif reason != "idle" or session.spec.on_idle == "end" or not self._paused(session):
                    self.end(session.id, reason)
            if self._admission.lacks_memory():
                for freeze in self._idle():
                    if freeze() and not self._admission.lacks_memory():
                        break

    # -- rest --------------------------------------------------------------------------------------

    @staticmethod
    def _rest(session: LiveSession, moment: float) -> None:
        """Freeze a session that has been idle for as long as its client asked."""
        if session.freezes_at() <= moment and session.may_freeze():
            session.power.freeze(session.may_freeze)

    @staticmethod
    def _paused(session: LiveSession) -> bool:
        """Pause a session whose idle time is over. True if it is, or will be once nothing is under way."""
        return session.pause(if_idle=True) or session.is_in_use

    def _idle(self) -> list[Callable[[], bool]]:
        """Return what freezes each idle session, the longest idle first."""
        idle = [session for session in self.all() if session.may_freeze() and not session.power.is_frozen]
        idle.sort(key=lambda session: session.idle_since)
        return [partial(session.power.freeze, session.may_freeze, waits=False) for session in idle]

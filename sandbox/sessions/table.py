"""The sessions of one worker: created from its pools, ended when they are idle, old, broken or not wanted."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from protocol.limits import JobInvalid, Limits
from protocol.result import Refusal
from protocol.session import SESSION_LIMITS
from sandbox.engines import EngineError
from sandbox.pool.warm_pool import NotReady
from sandbox.sessions.entry import enter_session
from sandbox.sessions.hub import SessionHub
from sandbox.sessions.session import LiveSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.session import EndReason, SessionSpec
    from sandbox.admission.control import Admission
    from sandbox.languages import Catalogue, Language
    from sandbox.lock_watch import LockWatch
    from sandbox.pool.warm_pool import WarmPool

log = logging.getLogger(__name__)

RETRY_S = 5
RETRY_NOT_READY_S = 30
#: At least so often it is looked which sessions are idle or too old.
TICK_S = 1.0
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
        most: int,
        memory_mb: int,
    ) -> None:
        """`most` sessions may live at a time, whose limits of memory are together at most `memory_mb`."""
        self._catalogue = catalogue
        self._pool = pool
        self._gvisor = gvisor
        self._admission = admission
        self._locks = locks
        self._most = most
        self._memory_mb = memory_mb
        self._hub = SessionHub()
        self._lock = threading.Lock()
        self._live: dict[str, LiveSession] = {}
        #: Sessions and the memory that they hold, those that are being created among them.
        self._held: Counter[str] = Counter()
        self._held_mb = 0
        self._ended: OrderedDict[str, dict[str, Any]] = OrderedDict()
        #: Called with the facts of each session that ends.
        self.on_end: Callable[[dict[str, Any]], None] = lambda _facts: None
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="session-ends", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._hub.start()
        self._ticker.start()

    def close(self) -> None:
        """End every session and the threads."""
        self._stopping.set()
        for session in self.all():
            self.end(session.id, "shutdown")
        self._ticker.join()
        self._hub.stop()

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

    def create(self, spec: SessionSpec) -> LiveSession | Refusal:
        """Create a session: a ready sandbox, put into session mode, its limits in force."""
        try:
            language, limits, pool = self._resolve(spec)
            pool.check(language)
        except JobInvalid as e:
            return Refusal(400, e.message, e.code, e.param)
        except NotReady:
            message = f"language: {spec.language} is known but not built yet"
            return Refusal(503, message, "language_not_ready", "language", RETRY_NOT_READY_S)
        resources = ExitStack()
        refusal = self._reserve(spec, limits.memory_mb, resources)
        if refusal is not None:
            return refusal
        session = LiveSession(spec, language, limits, pool, resources)
        try:
            self._begin(session, resources)
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
        if language.compiler is not None:
            raise JobInvalid(
                f"language: a session of {language.id} is not available: it is compiled",
                param="language",
                code="not_supported",
            )
        given = {name: spec.limits[name] for name in SESSION_LIMITS}
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

    def _reserve(self, spec: SessionSpec, memory_mb: int, resources: ExitStack) -> Refusal | None:
        """Count the session, and take its memory from what runs may use."""
        with self._lock:
            if self._stopping.is_set():
                return Refusal(503, "the service is stopping", "overloaded", None, 2)
            if spec.most_sessions is not None and self._held[spec.key] >= spec.most_sessions:
                message = f"this key may have {spec.most_sessions} live sessions; delete one first"
                return Refusal(429, message, "too_many_sessions", None, RETRY_S)
            if self._held.total() >= self._most or self._held_mb + memory_mb > self._memory_mb:
                return Refusal(503, "all sessions that may live here do", "overloaded", None, RETRY_S)
            self._held[spec.key] += 1
            self._held_mb += memory_mb
        resources.callback(self._uncount, spec.key, memory_mb)
        if not self._admission.lend(memory_mb):
            resources.close()
            return Refusal(503, "the memory for this session is in use", "overloaded", None, RETRY_S)
        resources.callback(self._admission.take_back, memory_mb)
        return None

    def _uncount(self, key: str, memory_mb: int) -> None:
        with self._lock:
            self._held[key] -= 1
            self._held_mb -= memory_mb
            if not self._held[key]:
                del self._held[key]

    def _begin(self, session: LiveSession, resources: ExitStack) -> None:
        spec, pool = session.spec, session.pool
        if spec.isolation == "container":
            sandbox = pool.start_cold(session.language)
        else:
            sandbox, _ = pool.take(session.language, "", spec.key)
        resources.callback(pool.discard, sandbox)
        if not sandbox.apply(session.limits):
            raise EngineError(f"a sandbox does not fit into {session.limits.memory_mb} MiB")
        resources.enter_context(self._locks.over(sandbox))
        env = {name.encode(): value.encode() for name, value in spec.env.items()}
        stream = enter_session(sandbox, env, self._hub, lambda why: self._lost(session, why))
        resources.callback(self._hub.remove, stream)
        session.attach(sandbox, stream)
        with self._lock:
            self._live[session.id] = session

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

    def _lost(self, session: LiveSession, why: str) -> None:
        """Note that a sandbox has hung up or broken the protocol: by itself, or because its session ends."""
        if session.end_reason is not None:
            return
        reason: EndReason = "oom" if _was_out_of_memory(session) else "failed"
        log.info("a session's sandbox was lost", extra={"session_id": session.id, "cause": why})
        # Not on the hub's thread: to take a sandbox apart may take a while.
        threading.Thread(target=self.end, args=(session.id, reason), daemon=True).start()

    def _tick(self) -> None:
        while not self._stopping.wait(TICK_S):
            moment = time.monotonic()
            for session in self.all():
                at, reason = session.due()
                if at <= moment:
                    self.end(session.id, reason)


def _was_out_of_memory(session: LiveSession) -> bool:
    try:
        return session.sandbox.stats().oom_kills > 0
    except (EngineError, OSError):
        return False
    except Exception:  # noqa: BLE001  # the session has ended meanwhile
        return False

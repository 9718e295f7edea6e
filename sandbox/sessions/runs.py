"""The runs of sessions: accepted, executed in order, each as a new process or as a cell of a context."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protocol.kernel import MAX_CONTEXTS
from protocol.limits import JobInvalid
from protocol.result import JobError, Refusal, Result
from sandbox.admission.control import AdmissionError, CancelledInQueue
from sandbox.engines import EngineError
from sandbox.frames import ProtocolError
from sandbox.results import result_without_run
from sandbox.run.plan import build_plan
from sandbox.sessions.cell_run import CellRun
from sandbox.sessions.channel import ChannelEnded
from sandbox.sessions.contexts import TooManyContexts
from sandbox.sessions.files import FileRefused
from sandbox.sessions.memory import NoMemory
from sandbox.sessions.order import TooManyWaiting
from sandbox.sessions.session import SessionGone, SessionPaused
from sandbox.sessions.session_run import SessionRun, write_file
from sandbox.sessions.stream import TooManyChannels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from protocol.job import Job, JobInput
    from sandbox.agent_client.client import Storage
    from sandbox.languages import Catalogue
    from sandbox.run.live import LiveRun
    from sandbox.run.plan import ExecutionPlan
    from sandbox.sessions.contexts import KernelContext
    from sandbox.sessions.session import LiveSession
    from sandbox.sessions.table import SessionTable

log = logging.getLogger(__name__)

PAUSED = Refusal(409, "this session is paused; resume it first", "session_paused")
NO_MEMORY = Refusal(503, "the memory for this session is in use", "overloaded", None, 5)
GONE = JobError("the session ended during this run", "session_ended")


@dataclass(frozen=True, slots=True)
class SessionJob:
    """A job of a session that keeps every rule. `context`: its code is a cell of that; None: a new process."""

    plan: ExecutionPlan
    session: LiveSession
    context: KernelContext | None = None


class SessionExecutor:
    """Runs jobs in their sessions, each on the caller's thread."""

    def __init__(
        self, catalogue: Catalogue, sessions: SessionTable, storage: Storage, *, queue_wait_s: float = 30.0
    ) -> None:
        """Have a run in a frozen session wait at most `queue_wait_s` for the session's memory."""
        self._catalogue = catalogue
        self._sessions = sessions
        self._storage = storage
        self._queue_wait_s = queue_wait_s

    def accept(self, job: Job) -> SessionJob | Refusal:
        """Check a job. An accepted job must be passed to `run`."""
        session = self._sessions.get(job.session)
        if session is None or session.spec.key != job.key:
            return Refusal(410, "this session has ended", "session_ended")
        if session.is_paused:
            return PAUSED
        try:
            plan = build_plan(job, self._catalogue)
        except JobInvalid as e:
            return Refusal(400, e.message, e.code, e.param)
        context = self._context_of(job, plan, session)
        if isinstance(context, Refusal):
            return context
        own = session.limits
        limits = replace(plan.limits, memory_mb=own.memory_mb, cpus=own.cpus, pids=own.pids)
        layer_id = None if session.layer is None else session.layer.id
        plan = replace(plan, limits=limits, outputs=job.outputs or session.spec.outputs, layer_id=layer_id)
        if context is None:
            return SessionJob(plan, session)
        return SessionJob(plan.as_cell(), session, context)

    def _context_of(self, job: Job, plan: ExecutionPlan, session: LiveSession) -> KernelContext | Refusal | None:
        """Return the context whose cell the job's code is; None if it is a new process."""
        is_cell = job.code is not None and not job.args and plan.language.kernel_argv
        if job.context:
            found = session.contexts.find(job.context)
            if found is None:
                return Refusal(404, "there is no such context in this session", "context_not_found", "context")
            if found.language.id != plan.language.id:
                message = f"language: this context's is {found.language.id}"
                return Refusal(400, message, "invalid_value", "language")
            if not is_cell:
                message = "context: only code without entrypoint and args runs in a context"
                return Refusal(400, message, "invalid_value", "context")
            return found
        if plan.language.id != session.language.id:
            message = f"language: this session's is {session.language.id}"
            return Refusal(400, message, "invalid_value", "language")
        if not is_cell or not plan.language.keeps_variables:
            return None
        try:
            return session.contexts.default(plan.language)
        except TooManyContexts:
            return Refusal(409, f"a session has at most {MAX_CONTEXTS} contexts", "too_many_contexts", "context")

    def place(self, session: LiveSession, inputs: Iterable[JobInput]) -> None:
        """Write stored files into a session. Raises FileRefused, StorageError and what ends a session."""
        with session.in_use():
            for item in inputs:
                with self._storage.open_input(item) as stored:
                    write_file(session, item.path, item.size, stored)

    def run(self, accepted: SessionJob, live: LiveRun) -> Result | Refusal:
        """Run what was accepted, after those that came before it in its session.

        A job that cannot run is refused if its caller waits for the answer alone; else its result says why.
        """
        found = self._run(accepted, live)
        is_refusable = live.outlet is not None and live.outlet.subscription == "status"
        if isinstance(found, Result) or is_refusable:
            return found
        kind = "server_error" if found.status >= 500 else "invalid_request_error"
        return result_without_run(accepted.plan, live, JobError(found.message, found.code, kind))

    def _run(self, accepted: SessionJob, live: LiveRun) -> Result | Refusal:
        plan, session = accepted.plan, accepted.session
        live.timestamps.accepted = accepted_at = time.monotonic()

        def may_wait() -> bool:
            session.check_alive()
            live.look()
            return live.stop is None

        def take(memory_mb: int) -> None:
            self._sessions.memory.take_in_turn(session.spec.key, memory_mb, live, self._queue_wait_s)

        try:
            with session.in_use(take=take), self._turn(accepted, may_wait) as is_wanted:
                session.check_alive()
                if not is_wanted:
                    return result_without_run(plan, live, None)
                return self._executed(accepted, live, accepted_at)
        except SessionPaused:
            return PAUSED
        except CancelledInQueue:
            return result_without_run(plan, live, None)
        except (NoMemory, AdmissionError):
            return NO_MEMORY
        except TooManyWaiting:
            return Refusal(409, "so many runs wait in this session already; try again later", "session_busy")
        except FileRefused as e:
            return Refusal(507 if e.code == "disk_full" else 400, f"files: {e.message}", e.code, "files")
        except TooManyChannels:
            return Refusal(409, "this session has all the processes that it may", "session_busy")
        except (SessionGone, ChannelEnded):
            return result_without_run(plan, live, GONE)
        except (ProtocolError, EngineError, OSError):
            log.exception("a run in a session failed")
            self._sessions.end(session.id, "failed")
            return result_without_run(plan, live, GONE)

    def _executed(self, accepted: SessionJob, live: LiveRun, accepted_at: float) -> Result:
        session = accepted.session
        live.timestamps.admitted = live.timestamps.ready = time.monotonic()
        queue_ms = round((time.monotonic() - accepted_at) * 1000)
        live.status("running", queue_ms=queue_ms)
        session.runs += 1
        facts = (session, accepted.plan, live, self._storage, queue_ms, self._sessions.lose)
        if accepted.context is not None:
            return CellRun(accepted.context, *facts).result()
        return SessionRun(*facts).result()

    @staticmethod
    def _turn(accepted: SessionJob, may_wait: Callable[[], bool]) -> AbstractContextManager[bool]:
        """Wait for the runs that the job must not overtake: those of its context, or of a language without any."""
        if accepted.context is not None:
            return accepted.context.order.turn(may_wait)
        if accepted.plan.language.keeps_variables:  # a process of its own, beside the contexts
            return nullcontext(enter_result=True)
        return accepted.session.order.turn(may_wait)

"""One job from acceptance to result: plan, place, sandbox, limits, conversation, facts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from sandbox.admission import Admission, LeftQueue, Overloaded
from sandbox.conversation import Compiled, Conversation, Spoken
from sandbox.engines import EngineError, Sandbox
from sandbox.job import (
    MIB,
    Compile,
    Isolation,
    Job,
    JobError,
    JobInvalid,
    Refusal,
    Result,
    Source,
    Usage,
)
from sandbox.languages import Catalogue
from sandbox.outcome import signal_name, status_of
from sandbox.plan import Plan, make_plan
from sandbox.pool import NotReady, WarmPool

log = logging.getLogger(__name__)

RETRY_OVERLOADED_S = 5
RETRY_NOT_READY_S = 30


class Executor:
    """Runs jobs, each on the caller's thread."""

    def __init__(self, catalogue: Catalogue, pool: WarmPool, admission: Admission) -> None:
        self._catalogue = catalogue
        self._pool = pool
        self._admission = admission

    def run(
        self,
        job: Job,
        *,
        client_fd: int | None = None,
        on_event: Callable[[str], None] = lambda _name: None,
    ) -> Result | Refusal:
        """Run a job to its end. Its departure of the peer of `client_fd` cancels it.

        `on_event` hears `queued` and then `started` of a job that has to wait for its place.
        """
        try:
            plan = make_plan(job, self._catalogue)
        except JobInvalid as e:
            return Refusal(400, e.message, e.code, e.param)
        waited_from = time.monotonic()
        queued = self._admission.must_wait(plan.memory_mb)
        if queued:
            on_event("queued")
        try:
            with self._admission.place(job.key, plan.memory_mb, client_fd):
                if queued:
                    on_event("started")
                queue_ms = round((time.monotonic() - waited_from) * 1000)
                return self._run(plan, queue_ms, client_fd)
        except Overloaded as e:
            return Refusal(503, f"the service is overloaded: {e}", "overloaded", None, RETRY_OVERLOADED_S)
        except LeftQueue:
            return Result(status="cancelled", language=plan.language.id, limits=plan.limits, cancelled=True)
        except NotReady:
            return Refusal(
                503,
                f"language: {plan.language.id} is known but not built yet",
                "language_not_ready",
                "language",
                RETRY_NOT_READY_S,
            )

    def _run(self, plan: Plan, queue_ms: int, client_fd: int | None) -> Result:
        self._pool.run_begins()
        started_at = _now()
        sandbox: Sandbox | None = None
        try:
            sandbox, source = self._sandbox_for(plan)
            spoken = Conversation(sandbox, plan, client_fd=client_fd).speak()
            return _result(plan, spoken, replace(sandbox.facts(), source=source), started_at, queue_ms)
        except (EngineError, OSError):
            log.exception("a run failed through the service's fault")
            return _failed(plan, started_at, queue_ms)
        finally:
            if sandbox is not None:
                self._pool.discard(sandbox)
            self._pool.run_ends()

    def _sandbox_for(self, plan: Plan) -> tuple[Sandbox, Source]:
        """A sandbox with the plan's limits in force. One that already holds more is given up for a lean one."""
        sandbox, source = self._pool.take(plan.language)
        if self._apply(sandbox, plan):
            return sandbox, source
        sandbox = self._pool.make_cold(plan.language)
        if self._apply(sandbox, plan):
            return sandbox, "cold"
        raise EngineError(f"a sandbox does not fit into {plan.limits.memory_mb} MiB")

    def _apply(self, sandbox: Sandbox, plan: Plan) -> bool:
        fits = False
        try:
            fits = sandbox.apply(plan.limits)
        finally:
            if not fits:
                self._pool.discard(sandbox)
        return fits


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _result(plan: Plan, spoken: Spoken, isolation: Isolation, started_at: str, queue_ms: int) -> Result:
    ending, receiver = spoken.ending, spoken.receiver
    return Result(
        status=status_of(ending),
        language=plan.language.id,
        limits=plan.limits,
        exit_code=ending.exit_code,
        signal=signal_name(ending.signal_number) if ending.signal_number is not None else None,
        timed_out=ending.timed_out,
        oom_killed=ending.oom_kills > 0,
        cancelled=ending.cancelled,
        stdout=_text(spoken.stdout),
        stderr=_text(spoken.stderr),
        stdout_truncated=spoken.stdout_truncated,
        stderr_truncated=spoken.stderr_truncated,
        usage=Usage(
            wall_ms=spoken.wall_ms,
            cpu_ms=round(spoken.stats.cpu_ns / 1e6),
            max_rss_mb=-(-spoken.stats.memory_peak_bytes // MIB),
            queue_ms=queue_ms,
        ),
        compile=_compile(spoken.compiled),
        artifacts=tuple(receiver.artifacts),
        skipped_artifacts=tuple(receiver.skipped),
        skipped_artifacts_count=receiver.skipped_count,
        isolation=isolation,
        started_at=started_at,
        finished_at=_now(),
    )


def _compile(compiled: Compiled | None) -> Compile | None:
    if compiled is None:
        return None
    return Compile(_text(compiled.stdout), _text(compiled.stderr), compiled.exit_code, compiled.wall_ms)


def _failed(plan: Plan, started_at: str, queue_ms: int) -> Result:
    return Result(
        status="error",
        language=plan.language.id,
        limits=plan.limits,
        usage=Usage(queue_ms=queue_ms),
        started_at=started_at,
        finished_at=_now(),
        error=JobError("the sandbox could not be provided; the run was not started", "engine_error"),
    )

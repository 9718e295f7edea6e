"""One job from acceptance to result: plan, place, sandbox, limits, conversation, facts."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from config.clock import now
from config.failpoints import failpoint
from protocol.job import Job
from protocol.limits import COMPILE_TIMEOUT_MS, MIB, JobInvalid, Limits
from protocol.result import Compile, Isolation, JobError, Refusal, Result, Source, Usage
from sandbox.admission.control import (
    Admission,
    BeyondShare,
    CancelledInQueue,
    KeyLimit,
    KeyLimitReached,
    Overloaded,
    Reservation,
)
from sandbox.agent_client.client import AgentClient, Storage
from sandbox.agent_client.report import AgentReport, CompileOutcome
from sandbox.engines import EngineError, Sandbox
from sandbox.function_output import with_output
from sandbox.languages import Catalogue
from sandbox.lock_watch import LockWatch
from sandbox.network.relay import NetworkRelay
from sandbox.pool.warm_pool import NotReady, WarmPool
from sandbox.results import INTERRUPTED, ended_result, result_without_run
from sandbox.run.live import LiveRun
from sandbox.run.plan import ExecutionPlan, build_plan
from sandbox.run.stored_outputs import store_outputs
from storage.errors import StorageError, StorageUnavailable

log = logging.getLogger(__name__)

RETRY_OVERLOADED_S = 5
RETRY_NOT_READY_S = 30
#: A killed api's connections close one after the other. A place that this frees is kept for this many seconds, so
#: that no run of the same api is started.
API_CLOSES_S = 0.1


@dataclass(frozen=True, slots=True)
class AdmittedJob:
    """A job that keeps every rule and has its place, or its place in the queue."""

    plan: ExecutionPlan
    place: Reservation
    at: float
    pool: WarmPool


class CellExecutor(Protocol):
    """Executes the code of runs with rich results: `sandbox.sessions.single_use`."""

    def limits(self, plan: ExecutionPlan) -> Limits:
        """Return the limits of a plan's sandbox."""

    def run(  # one argument per thing that the run has
        self,
        plan: ExecutionPlan,
        sandbox: Sandbox,
        source: Source,
        pool: WarmPool,
        queue_ms: int,
        live: LiveRun,
        network: NetworkRelay | None,
    ) -> Result:
        """Execute it in a sandbox that has these limits. Raises EngineError, StorageError."""


class Executor:
    """Runs jobs, each on the caller's thread."""

    def __init__(
        self,
        catalogue: Catalogue,
        pool: WarmPool,
        admission: Admission,
        storage: Storage,
        gvisor: WarmPool | None = None,
        *,
        cells: CellExecutor,
        locks: LockWatch,
        compile_timeout_ms: int = COMPILE_TIMEOUT_MS,
        egress: Path | None = None,
    ) -> None:
        """`gvisor` has the sandboxes of runs that ask for it; None where there is none. `cells` executes those
        that ask for results. `egress` is the socket of the egress process; None where no run may reach anything.
        """
        self._egress = egress
        self._compile_timeout_ms = compile_timeout_ms
        self._locks = locks
        self._cells = cells
        self._gvisor = gvisor
        self._catalogue = catalogue
        self._storage = storage
        self._pool = pool
        self._admission = admission

    def accept(self, job: Job) -> AdmittedJob | Refusal:
        """Check a job and enter the queue, without waiting. An accepted job must be passed to `run`."""
        try:
            plan = build_plan(job, self._catalogue, compile_timeout_ms=self._compile_timeout_ms)
            if plan.network is not None and self._egress is None:
                return Refusal(403, "network: EGRESS is off here", "network_not_allowed", "network.allow")
            pool = self._pool_for(job)
            pool.check(plan.language)
            share = KeyLimit(job.most_running, job.most_waiting)
            place = self._admission.reserve(job.key, plan.memory_mb, share, size=job.size)
            return AdmittedJob(plan, place, time.monotonic(), pool)
        except JobInvalid as e:
            return Refusal(400, e.message, e.code, e.param)
        except NotReady:
            return _not_ready(plan)
        except BeyondShare:
            return _beyond_share()
        except KeyLimitReached:
            return _share_used(job)
        except Overloaded as e:
            return _overloaded(e)

    def _pool_for(self, job: Job) -> WarmPool:
        if job.isolation != "gvisor":
            return self._pool
        if self._gvisor is None:
            raise JobInvalid(
                "isolation: gvisor is not available here; the service has no runsc",
                param="isolation",
                code="not_supported",
            )
        return self._gvisor

    def abandon(self, accepted: AdmittedJob) -> None:
        """Release the place of a job that will not be run."""
        self._admission.release(accepted.place)

    def run(self, accepted: AdmittedJob, live: LiveRun) -> Result | Refusal:
        """Run what was accepted to its end.

        If the job never got its place, a synchronous caller gets a Refusal; a streaming or background caller gets a
        Result with status `error`.
        """
        plan, place = accepted.plan, accepted.place
        live.timestamps.accepted = accepted.at
        refusable = live.outlet is not None and live.outlet.subscription == "status"
        queue_ms = 0
        try:
            if not place.held:
                self._admission.wait(place, live)
                queue_ms = _since(accepted.at)
            live.timestamps.admitted = time.monotonic()
            failpoint("leased")
            live.status("running", queue_ms=queue_ms)
            return self._run(plan, accepted.pool, queue_ms, live)
        except Overloaded as e:
            refusal = _overloaded(e)
            code = "queue_timeout"
        except BeyondShare:
            refusal = _beyond_share()
            code = refusal.code
        except CancelledInQueue:
            if live.stop != "stopping":
                error = None if live.stop == "cancelled" else INTERRUPTED
                return result_without_run(plan, live, error, queue_ms=_since(accepted.at))
            refusal = Refusal(503, "the service is stopping", "overloaded", None, RETRY_OVERLOADED_S)
            code = INTERRUPTED.code
        except NotReady:
            refusal = _not_ready(plan)
            code = refusal.code
        except StorageError as e:
            refusal = _no_input(e)
            code = refusal.code
        finally:
            if live.stop == "interrupted" and place.held:
                time.sleep(API_CLOSES_S)
            self._admission.release(place)
        if refusable:
            return refusal
        kind = "rate_limit_error" if refusal.status == 429 else "server_error"
        return result_without_run(plan, live, JobError(refusal.message, code, kind), queue_ms=_since(accepted.at))

    def _run(self, plan: ExecutionPlan, pool: WarmPool, queue_ms: int, live: LiveRun) -> Result:
        pool.run_begins()
        started_at = now()
        sandbox: Sandbox | None = None
        try:
            sandbox, source = self._sandbox_for(plan, pool)
            failpoint("created")
            live.timestamps.ready = time.monotonic()
            with self._locks.over(sandbox):
                network = self._network_of(plan, live)
                if plan.code is not None:
                    return self._cells.run(plan, sandbox, source, pool, queue_ms, live, network)
                spoken = AgentClient(sandbox, plan, live, self._storage, network).run_job()
            spoken.receiver.store(lambda artifact: live.emit("artifact", asdict(artifact)))
            facts = replace(sandbox.facts(), source=source)
            if network is not None:
                facts = replace(facts, network="proxy")
            result = _result(plan, spoken, facts, started_at, queue_ms, live, sandbox)
            result = with_output(result, plan.returns, spoken.output)
            outputs = store_outputs(self._storage, result.stdout, result.stderr, output=result.output)
            return replace(result, outputs=outputs) if outputs else result
        except (EngineError, OSError):
            log.exception("a run failed through the service's fault")
            error = JobError("the sandbox could not be provided; the run was not started", "engine_error")
            return result_without_run(plan, live, error, queue_ms=queue_ms, started_at=started_at)
        finally:
            if sandbox is not None:
                pool.discard(sandbox)
            pool.run_ends()

    def _network_of(self, plan: ExecutionPlan, live: LiveRun) -> NetworkRelay | None:
        if plan.network is None or self._egress is None:
            return None
        return NetworkRelay(self._egress, live.id, plan.owner, plan.network)

    def _sandbox_for(self, plan: ExecutionPlan, pool: WarmPool) -> tuple[Sandbox, Source]:
        """Return a sandbox with the plan's limits applied. One that exceeds them already is replaced by a smaller
        one.
        """
        if plan.dedicated_container:
            return self._fit_limits(pool.start_cold(plan.language, hold=plan.warm), plan, pool), "cold"
        sandbox, source = pool.take(plan.language, plan.flavour, plan.owner)
        if self._apply(sandbox, plan, pool):
            return sandbox, source
        return self._fit_limits(pool.start_cold(plan.language), plan, pool), "cold"

    def _fit_limits(self, sandbox: Sandbox, plan: ExecutionPlan, pool: WarmPool) -> Sandbox:
        """Apply the plan's limits to the sandbox and return it. Raises EngineError if it exceeds them already."""
        if self._apply(sandbox, plan, pool):
            return sandbox
        raise EngineError(f"a sandbox does not fit into {plan.limits.memory_mb} MiB")

    def _apply(self, sandbox: Sandbox, plan: ExecutionPlan, pool: WarmPool) -> bool:
        fits = False
        try:
            fits = sandbox.apply(plan.limits if plan.code is None else self._cells.limits(plan))
        finally:
            if not fits:
                pool.discard(sandbox)
        return fits


def _since(moment: float) -> int:
    return round((time.monotonic() - moment) * 1000)


def _overloaded(e: Overloaded) -> Refusal:
    return Refusal(503, f"the service is overloaded: {e}", "overloaded", None, RETRY_OVERLOADED_S)


def _share_used(job: Job) -> Refusal:
    running = "" if job.most_running is None else f"{job.most_running} concurrent runs and "
    message = f"this key may have {running}{job.most_waiting} waiting runs; try again when one has ended"
    return Refusal(429, message, "too_many_runs", None, RETRY_OVERLOADED_S)


def _beyond_share() -> Refusal:
    message = (
        "this key uses its share of the service, and the rest is in use; try again when one of its runs has ended"
    )
    return Refusal(429, message, "too_many_runs", None, RETRY_OVERLOADED_S)


def _not_ready(plan: ExecutionPlan) -> Refusal:
    message = f"language: {plan.language.id} is known but not built yet"
    return Refusal(503, message, "language_not_ready", "language", RETRY_NOT_READY_S)


def _no_input(e: StorageError) -> Refusal:
    """Return the refusal for a run whose input could not be sent; the program was not started."""
    if isinstance(e, StorageUnavailable):
        log.warning("an input cannot be read: %s", e, extra={"cause": repr(e.__cause__)})
        message = "the storage is unavailable; nothing was started"
        return Refusal(503, message, "storage_unavailable", None, RETRY_OVERLOADED_S)
    log.error("an input is not what was stored: %s", e)
    return Refusal(500, "files: the bytes of one are lost or damaged; upload it again", "file_damaged", "files")


def _result(  # one argument per source of facts
    plan: ExecutionPlan,
    spoken: AgentReport,
    isolation: Isolation,
    started_at: str,
    queue_ms: int,
    live: LiveRun,
    sandbox: Sandbox,
) -> Result:
    return ended_result(
        plan,
        live,
        spoken.ending,
        spoken.receiver,
        truncated=(spoken.stdout_truncated, spoken.stderr_truncated),
        usage=Usage(
            wall_ms=spoken.wall_ms,
            cpu_ms=round(spoken.stats.cpu_ns / 1e6),
            max_rss_mb=-(-spoken.stats.memory_peak_bytes // MIB),
            queue_ms=queue_ms,
            egress_bytes=spoken.egress_bytes,
        ),
        isolation=isolation,
        started_at=started_at,
        compiled=None if spoken.compiled is None else _compile(spoken.compiled),
        sandbox=sandbox,
    )


def _compile(compiled: CompileOutcome) -> Compile:
    stdout, stderr = _text(compiled.stdout), _text(compiled.stderr)
    return Compile(stdout, stderr, compiled.exit_code, compiled.wall_ms, compiled.cpu_ms)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")

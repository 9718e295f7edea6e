"""One job from acceptance to result: plan, place, sandbox, limits, conversation, facts."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from config.clock import now
from config.failpoints import failpoint
from protocol.job import Job
from protocol.limits import COMPILE_TIMEOUT_MS, MIB, JobInvalid, Limits
from protocol.packages import PackagesFailed
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
from sandbox.refusals import (
    NO_PACKAGES,
    RETRY_OVERLOADED_S,
    beyond_share,
    many_packages,
    no_input,
    not_ready,
    not_started,
    overloaded,
    packages_refusal,
    share_used,
)
from sandbox.results import INTERRUPTED, ended_result, result_without_run
from sandbox.run.live import LiveRun
from sandbox.run.package_layers import LayerSupply, TooManyWait, await_layer
from sandbox.run.plan import ExecutionPlan, build_plan
from sandbox.run.stored_outputs import store_outputs
from storage.errors import StorageError

log = logging.getLogger(__name__)

#: A killed api's connections close one after the other. A place that this frees is kept for this many seconds, so
#: that no run of the same api is started.
API_CLOSES_S = 0.1


@dataclass(frozen=True, slots=True)
class AdmittedJob:
    """A job that keeps every rule and has its place, or its place in the queue.

    One that asks for packages gets its place once they are ready: a build takes long, and needs a place itself.
    """

    plan: ExecutionPlan
    place: Reservation | None
    at: float
    pool: WarmPool
    share: KeyLimit
    #: The bytes that the job brings, if they are many.
    size: int


class JobUnread(Exception):
    """A sandbox ended before it had read its job: nothing was started, so another one may get it."""


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
        layers: LayerSupply | None = None,
    ) -> None:
        """`gvisor` has the sandboxes of runs that ask for it; None where there is none. `cells` executes those
        that ask for results. `egress` is the socket of the egress process; None where no run may reach anything.
        `layers` has the packages of runs; None where no run may have any.
        """
        self._egress = egress
        self._layers = layers
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
            if plan.packages:
                self._supply().enter(job.key, job.size)
                return AdmittedJob(plan, None, time.monotonic(), pool, share, job.size)
            place = self._admission.reserve(job.key, plan.memory_mb, share, size=job.size)
            return AdmittedJob(plan, place, time.monotonic(), pool, share, job.size)
        except JobInvalid as e:
            return Refusal(400, e.message, e.code, e.param)
        except NotReady:
            return not_ready(plan)
        except BeyondShare:
            return beyond_share()
        except KeyLimitReached:
            return share_used(share)
        except Overloaded as e:
            return overloaded(e)
        except PackagesFailed as e:
            return packages_refusal(e)
        except TooManyWait as e:
            return many_packages(e)

    def _supply(self) -> LayerSupply:
        if self._layers is None:
            raise PackagesFailed("package_not_allowed", NO_PACKAGES)
        return self._layers

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
        if accepted.place is None:
            self._supply().leave(accepted.plan.owner, accepted.size)
        else:
            self._admission.release(accepted.place)

    def run(self, accepted: AdmittedJob, live: LiveRun) -> Result | Refusal:
        """Run what was accepted to its end.

        If the job never got its place, a synchronous caller gets a Refusal; a streaming or background caller gets a
        Result with status `error`.
        """
        if accepted.place is not None:
            return self._run_in_place(accepted, accepted.place, live)
        live.timestamps.accepted = accepted.at
        with ExitStack() as held:
            try:
                ready = self._with_layer(accepted, live, held)
                place = self._admission.reserve(
                    ready.plan.owner, ready.plan.memory_mb, ready.share, size=ready.size
                )
            except PackagesFailed as e:
                return not_started(accepted.plan, live, packages_refusal(e), e.code)
            except CancelledInQueue:
                return self._cancelled(accepted, live)
            except KeyLimitReached:
                refusal = share_used(accepted.share)
            except BeyondShare:
                refusal = beyond_share()
            except Overloaded as e:
                refusal = overloaded(e)
            else:
                return self._run_in_place(ready, place, live)
            return not_started(accepted.plan, live, refusal, refusal.code)

    def _with_layer(self, accepted: AdmittedJob, live: LiveRun, held: ExitStack) -> AdmittedJob:
        """Return the job with the layer of its packages, which is `held`.

        Raises PackagesFailed with the place in the request, or CancelledInQueue.
        """
        plan, supply = accepted.plan, self._supply()
        key, language, packages = plan.owner, plan.language.id, plan.packages
        try:
            layer = held.enter_context(supply.at_hand(key=key, language=language, packages=packages))
            if layer is None:
                waiting = supply.wait(key=key, language=language, packages=packages)
                held.enter_context(closing(waiting))
                layer = await_layer(waiting, live)
        except PackagesFailed as e:
            raise PackagesFailed(e.code, e.message, plan.place_of(e.index)) from e
        finally:
            supply.leave(plan.owner, accepted.size)
        if layer is None:
            raise CancelledInQueue
        plan = replace(plan, layer_id=layer.id, layer=layer)
        # Its time in the queue begins now.
        return replace(accepted, plan=plan, at=time.monotonic())

    def _cancelled(self, accepted: AdmittedJob, live: LiveRun) -> Result | Refusal:
        """Return the end of a run that was ended before it had begun."""
        if live.stop != "stopping":
            error = None if live.stop == "cancelled" else INTERRUPTED
            return result_without_run(accepted.plan, live, error, queue_ms=_since(accepted.at))
        refusal = Refusal(503, "the service is stopping", "overloaded", None, RETRY_OVERLOADED_S)
        return not_started(accepted.plan, live, refusal, INTERRUPTED.code, _since(accepted.at))

    def _run_in_place(self, accepted: AdmittedJob, place: Reservation, live: LiveRun) -> Result | Refusal:
        plan = accepted.plan
        live.timestamps.accepted = accepted.at
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
            refusal = overloaded(e)
            code = "queue_timeout"
        except BeyondShare:
            refusal = beyond_share()
            code = refusal.code
        except CancelledInQueue:
            return self._cancelled(accepted, live)
        except NotReady:
            refusal = not_ready(plan)
            code = refusal.code
        except StorageError as e:
            refusal = no_input(e)
            code = refusal.code
        finally:
            if live.stop == "interrupted" and place.held:
                time.sleep(API_CLOSES_S)
            self._admission.release(place)
        return not_started(plan, live, refusal, code, _since(accepted.at))

    def _run(self, plan: ExecutionPlan, pool: WarmPool, queue_ms: int, live: LiveRun) -> Result:
        pool.run_begins()
        started_at = now()
        try:
            try:
                return self._attempt(plan, pool, queue_ms, live, started_at)
            except JobUnread:
                log.warning("a sandbox ended before it had read its job; another one gets it")
                return self._attempt(plan, pool, queue_ms, live, started_at, is_last=True)
        except (EngineError, OSError):
            log.exception("a run failed through the service's fault")
            error = JobError("the sandbox could not be provided; the run was not started", "engine_error")
            return result_without_run(plan, live, error, queue_ms=queue_ms, started_at=started_at)
        finally:
            pool.run_ends()

    def _attempt(  # one argument per thing that the run has
        self,
        plan: ExecutionPlan,
        pool: WarmPool,
        queue_ms: int,
        live: LiveRun,
        started_at: str,
        *,
        is_last: bool = False,
    ) -> Result:
        """Run a plan in a sandbox. Raises EngineError, StorageError, and JobUnread unless `is_last`."""
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
            if spoken.unread and live.stop is None and not is_last:
                raise JobUnread
            spoken.receiver.store(lambda artifact: live.emit("artifact", asdict(artifact)))
            facts = replace(sandbox.facts(), source=source)
            if network is not None:
                facts = replace(facts, network="proxy")
            result = _result(plan, spoken, facts, started_at, queue_ms, live, sandbox)
            result = with_output(result, plan.returns, spoken.output)
            outputs = store_outputs(self._storage, result.stdout, result.stderr, output=result.output)
            return replace(result, outputs=outputs) if outputs else result
        finally:
            if sandbox is not None:
                pool.discard(sandbox)

    def _network_of(self, plan: ExecutionPlan, live: LiveRun) -> NetworkRelay | None:
        if plan.network is None or self._egress is None:
            return None
        return NetworkRelay(self._egress, live.id, plan.owner, plan.network)

    def _sandbox_for(self, plan: ExecutionPlan, pool: WarmPool) -> tuple[Sandbox, Source]:
        """Return a sandbox with the plan's limits applied. One that exceeds them already is replaced by a smaller
        one.
        """
        if plan.dedicated_container:
            return self._fit_limits(
                pool.start_cold(plan.language, hold=plan.warm, layer=plan.layer), plan, pool
            ), "cold"
        sandbox, source = pool.take(plan.language, plan.flavour, plan.owner, layer=plan.layer)
        if self._apply(sandbox, plan, pool):
            return sandbox, source
        return self._fit_limits(pool.start_cold(plan.language, layer=plan.layer), plan, pool), "cold"

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

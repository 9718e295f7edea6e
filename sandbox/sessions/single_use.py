"""A single-use run with rich results: its sandbox becomes a session's for one cell, and ends with it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from protocol.limits import MIB
from protocol.result import JobError, Result
from protocol.session import SessionSpec
from sandbox.engines import EngineError
from sandbox.frames import ProtocolError
from sandbox.results import result_without_run
from sandbox.sessions.cell_run import CellRun
from sandbox.sessions.channel import ChannelEnded
from sandbox.sessions.contexts import KernelContext
from sandbox.sessions.entry import enter_session
from sandbox.sessions.files import FileRefused
from sandbox.sessions.loss import note_loss, reason_of_loss
from sandbox.sessions.output_budget import OutputBudget
from sandbox.sessions.power import Power
from sandbox.sessions.session import LiveSession, SessionGone
from sandbox.sessions.stream import TooManyChannels
from sandbox.sessions.table import OPERATION_PIDS

if TYPE_CHECKING:
    from protocol.limits import Limits
    from protocol.result import Source
    from sandbox.agent_client.client import Storage
    from sandbox.engines import Sandbox
    from sandbox.network.relay import NetworkRelay
    from sandbox.pool.warm_pool import WarmPool
    from sandbox.run.live import LiveRun
    from sandbox.run.plan import ExecutionPlan
    from sandbox.sessions.hub import SessionHub
    from sandbox.sessions.memory import SessionMemory

#: Seconds between two looks at the processor time at least.
CPU_CHECK_MIN_S = 0.02


class SingleCell(CellRun):
    """The one cell of a sandbox. It has a limit of processor time, which runs of sessions do not have."""

    _cpu_check = 0.0

    def _next_check(self) -> float:
        if self._timed_out or self._is_stopped:  # its end is under way
            return self._deadline
        moment = time.monotonic()
        if moment >= self._cpu_check:
            limits = self._plan.limits
            left_s = limits.cpu_ms / 1000 - self._session.sandbox.stats().cpu_ns / 1e9
            self._cpu_check = moment + max(left_s / limits.cpus, CPU_CHECK_MIN_S)
            if left_s <= 0:
                self._deadline = min(self._deadline, moment)
        return min(self._deadline, self._cpu_check)


class SingleUseCells:
    """Executes cells, each in a sandbox of its own that is used for nothing else."""

    def __init__(self, hub: SessionHub, memory: SessionMemory, storage: Storage) -> None:
        self._hub = hub
        self._memory = memory
        self._storage = storage

    def limits(self, plan: ExecutionPlan) -> Limits:
        """Return the limits of a plan's sandbox: with room for the processes that write and read its files."""
        return replace(plan.limits, pids=plan.limits.pids + OPERATION_PIDS)

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
        """Execute a plan's code in a sandbox that has its limits. Raises EngineError, StorageError.

        `network` is for one that may reach hosts. The caller discards the sandbox.
        """
        resources = ExitStack()
        # Its memory is that of the run's place: nothing more is taken here.
        power, spec = Power(self._memory, 0), _spec(plan, live.id)
        session = LiveSession(spec, plan.language, plan.limits, pool, resources, power, OutputBudget(MIB))
        try:
            env = {"HOME": session.spec.workdir} | plan.env
            named = {name.encode(): value.encode() for name, value in env.items()}
            stream = enter_session(sandbox, named, self._hub, lambda _why: note_loss(session, _ended), network)
            resources.callback(self._hub.remove, stream)
            session.attach(sandbox, stream)
            return self._result(session, plan, source, queue_ms, live)
        finally:
            session.end("deleted")

    def _result(
        self, session: LiveSession, plan: ExecutionPlan, source: Source, queue_ms: int, live: LiveRun
    ) -> Result:
        context = KernelContext(session, plan.language, session.spec.workdir, None, {})
        facts = (session, plan, live, self._storage, queue_ms, lambda lost, _why: _ended(lost))
        try:
            result = SingleCell(context, *facts).result()
        except FileRefused as e:
            error = JobError(f"files: {e.message}", e.code, "invalid_request_error")
            return result_without_run(plan, live, error, queue_ms=queue_ms)
        except (ChannelEnded, SessionGone, TooManyChannels, ProtocolError) as e:
            raise EngineError(f"a sandbox ended before its cell had begun: {e!r}") from e
        finally:
            context.stop()
        moved = session.facts()["usage"]["egress_bytes"]
        return replace(
            result,
            context=None,
            execution_count=None,
            state=None,
            isolation=None if result.isolation is None else replace(result.isolation, source=source),
            usage=replace(result.usage, egress_bytes=moved, shared=False),
        )


def _ended(session: LiveSession) -> None:
    session.end(reason_of_loss(session))


def _spec(plan: ExecutionPlan, run_id: str) -> SessionSpec:
    return SessionSpec(
        run_id,
        plan.language.id,
        plan.owner,
        {"disk_mb": 0},
        env=plan.env,
        outputs=plan.outputs,
        freeze_after_s=0,
        network=plan.network,
    )

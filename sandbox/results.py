"""Make the result of a run, in a sandbox of its own or in a session, from the facts of its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.clock import now
from protocol.result import Isolation, JobError, Result, Usage
from sandbox.run.outcome import ExitFacts, signal_name, status_of

if TYPE_CHECKING:
    from sandbox.agent_client.artifacts import Receiver
    from sandbox.run.live import LiveRun
    from sandbox.run.plan import ExecutionPlan

#: The error of a run whose api died while it waited for it.
INTERRUPTED = JobError("the service was restarted during this run", "interrupted")


def ended_result(
    plan: ExecutionPlan,
    live: LiveRun,
    ending: ExitFacts,
    receiver: Receiver,
    *,
    truncated: tuple[bool, bool],
    usage: Usage,
    isolation: Isolation,
    started_at: str,
) -> Result:
    """Return the result of a run whose program was started. `truncated` is of stdout and stderr."""
    return Result(
        status=status_of(ending),
        language=plan.language.id,
        limits=plan.limits,
        exit_code=ending.exit_code,
        signal=signal_name(ending.signal_number) if ending.signal_number is not None else None,
        timed_out=ending.timed_out,
        oom_killed=ending.oom_kills > 0,
        cancelled=ending.cancelled,
        stdout=live.log.text("stdout"),
        stderr=live.log.text("stderr"),
        stdout_truncated=truncated[0],
        stderr_truncated=truncated[1],
        usage=usage,
        artifacts=tuple(receiver.artifacts),
        skipped_artifacts=tuple(receiver.skipped),
        skipped_artifacts_count=receiver.skipped_count,
        isolation=isolation,
        started_at=started_at,
        finished_at=now(),
        error=INTERRUPTED if ending.interrupted else None,
        timeline=live.log.timeline(),
    )


def result_without_run(
    plan: ExecutionPlan,
    live: LiveRun,
    error: JobError | None,
    *,
    queue_ms: int = 0,
    started_at: str | None = None,
) -> Result:
    """Return the result of a run whose program did not run: cancelled in the queue or, with an error, failed."""
    return Result(
        status="cancelled" if error is None else "error",
        language=plan.language.id,
        limits=plan.limits,
        cancelled=error is None,
        usage=Usage(queue_ms=queue_ms),
        started_at=started_at,
        finished_at=now(),
        error=error,
        timeline=live.log.timeline(),
    )

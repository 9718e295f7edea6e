"""Make the result of a run, in a sandbox of its own or in a session, from the facts of its end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from config.clock import now
from protocol.result import Compile, Isolation, JobError, Result, Usage
from sandbox.engines import EngineError
from sandbox.hints.derive import hints_of
from sandbox.hints.facts import HintFacts
from sandbox.run.outcome import ExitFacts, signal_name, status_of

if TYPE_CHECKING:
    from protocol.hints import HintData
    from protocol.result import Artifact
    from sandbox.agent_client.artifacts import Receiver
    from sandbox.engines import Sandbox
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
    compiled: Compile | None,
    sandbox: Sandbox,
    refused_before: int | None = None,
    raised: str = "",
) -> Result:
    """Return the result of a run whose program was started. `truncated` is of stdout and stderr.

    `refused_before` is given for a run of a session: the processes that its sandbox had been refused until then.
    `raised` is the exception that ended it, if that is not in stderr.
    """
    result = Result(
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
        compile=compiled,
        layer=plan.layer_id,
    )
    compiler_output = compiled.stderr + compiled.stdout if compiled is not None and ending.not_compiled else None
    hints = _hints(plan, result, sandbox, compiler_output, refused_before, raised)
    return replace(result, hints=hints) if hints else result


def _hints(
    plan: ExecutionPlan,
    result: Result,
    sandbox: Sandbox,
    compiler_output: str | None,
    refused_before: int | None,
    raised: str,
) -> tuple[HintData, ...]:
    has_own_kernel = result.isolation is not None and result.isolation.platform is not None
    facts = HintFacts(
        language=result.language,
        status=result.status,
        limits=result.limits,
        stderr=f"{result.stderr}{raised}",
        compiler_output=compiler_output,
        timed_out=result.timed_out,
        oom_killed=result.oom_killed,
        wall_ms=result.usage.wall_ms,
        has_network=result.isolation is not None and result.isolation.network == "proxy",
        in_session=plan.in_session,
        files=lambda: _files(plan, result.artifacts),
        image=sandbox.image,
        # A kernel of the sandbox's own refuses without the host's knowledge.
        refused_processes=lambda: None if has_own_kernel else refused_since(sandbox, refused_before),
    )
    return hints_of(facts)


def refused_since(sandbox: Sandbox, before: int | None) -> int | None:
    """Return how often a sandbox was refused a process since `before` was counted; None if that is not known."""
    try:
        refused = sandbox.refused_processes()
    except (OSError, EngineError):  # not every kernel counts them, and the sandbox may have ended
        return None
    return None if refused is None else refused - (before or 0)


def _files(plan: ExecutionPlan, artifacts: tuple[Artifact, ...]) -> list[str]:
    prefix = "" if plan.outputs == "." else f"{plan.outputs}/"
    found = [path for path, _ in plan.files] + [item.path for item in plan.inputs]
    return found + [prefix + artifact.path for artifact in artifacts]


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
        layer=plan.layer_id,
    )

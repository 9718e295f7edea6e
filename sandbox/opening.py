"""What the host says first: the files and the job, as the agent reads them (`runners/agent/job.py`)."""

from __future__ import annotations

from sandbox import frames
from sandbox.frames import frame, pack
from sandbox.job import MAX_ARTIFACTS_BYTES, Limits
from sandbox.plan import CompilePlan, Plan

#: The agent's own deadline lies this far behind the host's: it is for when the host is gone.
AGENT_GRACE_MS = 10_000


def opening(plan: Plan) -> bytes:
    """The frames that carry the files and the job; `compile`, or stdin and `go`, follow them."""
    parts: list[bytes] = []
    for path, content in plan.files:
        parts.extend(frames.frames_of(frames.FILE, frames.MORE, path.encode(), content))
    parts.append(frame(frames.JOB, _job_payload(plan, plan.limits)))
    return b"".join(parts)


def _job_payload(plan: Plan, limits: Limits) -> bytes:
    numbers = (
        limits.timeout_ms + AGENT_GRACE_MS,
        limits.max_output_bytes,
        limits.max_artifact_bytes,
        limits.max_artifact_files,
        MAX_ARTIFACTS_BYTES,
    )
    return pack(
        [
            b"1" if plan.warm else b"0",
            pack(part.encode() for part in plan.argv),
            pack(arg.encode() for arg in plan.args),
            _pairs(plan.env),
            *(str(value).encode() for value in numbers),
            *_compile_parts(plan.compiling),
        ]
    )


def _compile_parts(compiling: CompilePlan | None) -> list[bytes]:
    if compiling is None:
        return [b"", b"", b"0"]
    deadline_ms = compiling.limits.timeout_ms + AGENT_GRACE_MS
    return [pack(part.encode() for part in compiling.argv), _pairs(compiling.env), str(deadline_ms).encode()]


def _pairs(env: dict[str, str]) -> bytes:
    return pack(f"{name}={value}".encode() for name, value in env.items())

"""What the host says first: the files and the job, as the agent reads them (`runners/agent/job.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from protocol.job import MAX_ARTIFACTS_BYTES, JobInput
from protocol.limits import Limits
from sandbox import frames
from sandbox.frames import frame, pack
from sandbox.run.plan import CompilePlan, Plan
from storage import Content

#: The agent's own deadline lies this far behind the host's: it is for when the host is gone.
AGENT_GRACE_MS = 10_000


class Inputs(Protocol):
    """Where the bytes of inputs come from."""

    def open_input(self, item: JobInput) -> Content:
        """The bytes of an input, checked on their way. Raises StorageError."""


def opening(plan: Plan, inputs: Inputs) -> Iterator[bytes]:
    """The frames that carry the files and the job, one after the other; `compile`, or stdin and `go`, follow
    them.

    What is in storage is read as it is sent, some hundred KiB at a time. Raises StorageError when it cannot be, or
    is not what it should be: the job has not been sent then.
    """
    for path, content in plan.files:
        yield from frames.frames_of(frames.FILE, frames.MORE, path.encode(), content)
    for item in plan.inputs:
        yield from _frames_of_input(item, inputs)
    yield frame(frames.JOB, _job_payload(plan, plan.limits))


def _frames_of_input(item: JobInput, inputs: Inputs) -> Iterator[bytes]:
    with inputs.open_input(item) as content:
        yield frame(frames.FILE, pack([item.path.encode(), b""]))
        for piece in content:
            yield frame(frames.MORE, piece)


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

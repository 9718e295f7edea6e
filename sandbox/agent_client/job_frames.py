"""Encode the files and the job for the agent, which decodes them in `runners/agent/job.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

from protocol.job import JobInput
from protocol.limits import LIMIT_RULES
from sandbox import frames
from sandbox.frames import frame, pack
from sandbox.run.plan import ExecutionPlan
from storage import Content

#: The agent's own deadline lies this far behind the host's: it matters only if the host is gone.
AGENT_GRACE_MS = 10_000
#: In a FILE frame behind path and content: the file is a program.
EXECUTABLE = b"x"
#: The forms that a field of the JOB frame has.
Packing = Literal["flag", "number", "strings", "pairs", "text"]


class FrameField(NamedTuple):
    """A field of the JOB frame."""

    name: str
    packing: Packing


_LIMITS = tuple(FrameField(name, rule.frame) for name, rule in LIMIT_RULES.items() if rule.frame is not None)
#: The fields of the JOB frame in their order. The agent has the same table (`FIELDS` in `runners/agent/job.py`).
JOB_FIELDS: tuple[FrameField, ...] = (
    FrameField("warm", "flag"),
    FrameField("argv", "strings"),
    FrameField("program_args", "strings"),
    FrameField("env", "pairs"),
    FrameField("deadline_ms", "number"),
    *_LIMITS,
    FrameField("max_artifacts_bytes", "number"),
    FrameField("compile_argv", "strings"),
    FrameField("compile_env", "pairs"),
    FrameField("compile_deadline_ms", "number"),
    FrameField("outputs", "text"),
)


class Inputs(Protocol):
    """The source of the bytes of inputs."""

    def open_input(self, item: JobInput) -> Content:
        """Open the bytes of an input; they are checked while they are read. Raises StorageError."""

    def program(self, item: JobInput) -> Iterator[bytes]:
        """Yield the bytes of the input that is the program; they are checked. Raises StorageError."""


def job_frames(plan: ExecutionPlan, inputs: Inputs) -> Iterator[bytes]:
    """Yield the frames of the files and the job. COMPILE, or STDIN and GO, follow them.

    Stored files are read while they are sent, some hundred KiB at a time. Raises StorageError when a file cannot be
    read or is damaged: the job has not been sent then.
    """
    if plan.network is not None:
        yield frame(frames.NETWORK)
    for path, content in plan.files:
        yield from frames.frames_of(frames.FILE, frames.MORE, path.encode(), content)
    for item in plan.inputs:
        if item.path == plan.program:
            yield from _frames_of_input(item, inputs.program(item), EXECUTABLE)
            continue
        with inputs.open_input(item) as stored:
            yield from _frames_of_input(item, stored)
    yield frame(frames.JOB, _job_payload(plan))


def _frames_of_input(item: JobInput, content: Iterable[bytes], *mode: bytes) -> Iterator[bytes]:
    yield frame(frames.FILE, pack([item.path.encode(), b"", *mode]))
    for piece in content:
        yield frame(frames.MORE, piece)


def _job_fields(plan: ExecutionPlan) -> dict[str, Any]:
    """Return the value of every field of `JOB_FIELDS`."""
    compiling = plan.compiling
    return {
        "warm": plan.warm,
        "argv": plan.argv,
        "program_args": plan.args,
        "env": plan.env,
        "deadline_ms": plan.limits.timeout_ms + AGENT_GRACE_MS,
        **{name: getattr(plan.collected, name) for name, _ in _LIMITS},
        # One byte more is how the host learns at once that there was more than is kept.
        "max_output_bytes": plan.limits.max_output_bytes + plan.ends_when_cut,
        "max_artifacts_bytes": plan.collected_bytes,
        "compile_argv": compiling.argv if compiling else (),
        "compile_env": compiling.env if compiling else {},
        "compile_deadline_ms": compiling.limits.timeout_ms + AGENT_GRACE_MS if compiling else 0,
        "outputs": plan.outputs,
    }


def _job_payload(plan: ExecutionPlan) -> bytes:
    """Return the payload of the JOB frame: its fields in their order, each packed in its form."""
    values = _job_fields(plan)
    return pack([packed(values[name]) for name, packed in _PACKERS])


def _strings(texts: Iterable[str]) -> bytes:
    return pack([text.encode() for text in texts])


def _pairs(env: dict[str, str]) -> bytes:
    return pack([f"{name}={value}".encode() for name, value in env.items()])


#: A field's bytes, by its form. The agent's end is `_READ` in `runners/agent/job.py`.
_PACK: dict[Packing, Callable[[Any], bytes]] = {
    "flag": lambda flag: b"1" if flag else b"0",
    "number": b"%d".__mod__,
    "strings": _strings,
    "pairs": _pairs,
    "text": str.encode,
}
_PACKERS = [(field.name, _PACK[field.packing]) for field in JOB_FIELDS]

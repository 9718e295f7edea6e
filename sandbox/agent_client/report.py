"""Buffer the output of an agent during a run, and hold its report."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox import frames
from sandbox.agent_client.artifacts import Receiver
from sandbox.agent_client.output_file import OutputFile
from sandbox.engines import Stats
from sandbox.run.outcome import ExitFacts


@dataclass(frozen=True, slots=True)
class CompileOutcome:
    """The outcome of compiling. `exit_code` None: the compiler was killed, or its end is unknown."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    wall_ms: int
    cpu_ms: int


@dataclass(slots=True)
class AgentReport:
    """The report of a run: its end, its artifacts and usage. The output is in the run's event log.

    All but `compiled` is of the program alone; where that was not run there was no output, time or memory.
    """

    ending: ExitFacts
    stdout_truncated: bool
    stderr_truncated: bool
    wall_ms: int
    stats: Stats
    receiver: Receiver
    #: The file of a function's output; None for a run that is no call, or prints it.
    output: OutputFile | None = None
    compiled: CompileOutcome | None = None
    #: Sent to hosts and received from them, together.
    egress_bytes: int = 0
    #: The sandbox ended before its agent had read the job, and not for what was sent: nothing was started.
    unread: bool = False


@dataclass(slots=True)
class OutputBuffer:
    """One captured output stream: at most `room` more bytes are kept."""

    name: str
    room: int
    truncated: bool = False
    #: The compiler's output; the program's output is sent to the run's log at once.
    data: bytearray = field(default_factory=bytearray)

    def take(self, payload: bytes) -> bytes:
        """Keep as much of the payload as fits."""
        if len(payload) > self.room:
            self.truncated = True
            payload = payload[: self.room]
        self.room -= len(payload)
        return payload


def output_buffers(room: int) -> dict[bytes, OutputBuffer]:
    """Return both streams of a phase, by the kind of their frames."""
    return {frames.STDOUT: OutputBuffer("stdout", room), frames.STDERR: OutputBuffer("stderr", room)}

"""The result of a job: what travels from a worker back to api, or why the worker refused the job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import orjson

from protocol.hints import HintData
from protocol.kernel import ExceptionFacts, KernelState
from protocol.limits import Limits
from protocol.states import Status

#: `pool` and `cold` are what an engine answers; `template` is kept for the source of that name.
Source = Literal["pool", "template", "cold"]


@dataclass(frozen=True, slots=True)
class Usage:
    wall_ms: int = 0
    cpu_ms: int = 0
    max_rss_mb: int = 0
    queue_ms: int = 0
    #: Sent to the hosts that the run may reach, and received from them, together.
    egress_bytes: int = 0
    #: True if something else ran in the sandbox of a session meanwhile: then the other numbers are of both.
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Compile:
    """The outcome of the compile phase. `exit_code` is null when the compiler was killed.

    `cpu_ms` is what the sandbox's control group counted in that phase.
    """

    stdout: str
    stderr: str
    exit_code: int | None
    wall_ms: int
    cpu_ms: int = 0


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file the program left in /work/outputs; `name` and `path` are metadata, never opened by a host."""

    id: str
    name: str
    path: str
    size: int
    sha256: str
    content_type: str


@dataclass(frozen=True, slots=True)
class OutputBlob:
    """An output that is stored as a blob of the artifacts' area, in UTF-8, in addition to the result.

    Results are a list in JSON, the output of a function any JSON.
    """

    part: Literal["stdout", "stderr", "results", "output"]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Isolation:
    """The isolation of one run, as measured by the engine."""

    engine: str
    runtime: str
    source: Source
    network: str
    seccomp: str | None
    apparmor: str | None
    user_namespace: bool
    image: str
    #: gVisor's means of catching system calls (`systrap`, `ptrace`); None where the host's kernel answers them.
    platform: str | None = None
    #: True if DISABLE_SANDBOX_SECURITY removed seccomp, AppArmor and no-new-privileges.
    relaxed: bool = False


@dataclass(frozen=True, slots=True)
class JobError:
    """Why the service (not the program) failed: what the error envelope of API.md carries."""

    message: str
    code: str
    type: str = "server_error"
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a run: independent facts, and the one `status` derived from them (API.md)."""

    status: Status
    language: str
    limits: Limits
    exit_code: int | None = None
    signal: str | None = None
    timed_out: bool = False
    oom_killed: bool = False
    cancelled: bool = False
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    usage: Usage = field(default_factory=Usage)
    compile: Compile | None = None
    artifacts: tuple[Artifact, ...] = ()
    skipped_artifacts: tuple[dict[str, str], ...] = ()
    skipped_artifacts_count: int = 0
    isolation: Isolation | None = None
    started_at: str | None = None
    finished_at: str | None = None
    error: JobError | None = None
    #: The order and the lengths of the run's events; see `sandbox.run.events.EventLog.timeline`.
    timeline: list[list[Any]] = field(default_factory=list)
    #: The outputs that are too large for a record.
    outputs: tuple[OutputBlob, ...] = ()
    #: Why the program failed, and the remedy; see `sandbox.hints`.
    hints: tuple[HintData, ...] = ()
    #: Of a cell of a context: the context, the number of the cell in it, and whether its variables were kept.
    context: str | None = None
    execution_count: int | None = None
    state: KernelState | None = None
    exception: ExceptionFacts | None = None
    #: See `sandbox.sessions.kernel_replies`.
    results: tuple[orjson.Fragment, ...] = ()
    results_dropped: int = 0
    #: The layer of the packages that were asked for.
    layer: str | None = None
    #: The output of a function as JSON on one line; None for all other runs, and where there is none.
    output: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return data for orjson, with the fields named as in API.md."""
        return asdict(replace(self, results=())) | {"results": list(self.results)}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the worker did not take a job: an HTTP status and the fields of the error envelope."""

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after_s: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)

"""A job and its result: the types that travel between api and worker.

The same JSON goes over every transport (the Unix socket today, AMQP later). This module and `sandbox.limits` are
what `api` and `dispatch` import of `sandbox`, so they hold types and the rules of a job, and no power.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sandbox.limits import KIB, MIB, Limits

MAX_CODE_BYTES = MIB
MAX_STDIN_BYTES = 8 * MIB
MAX_INLINE_FILES = 64
MAX_ARGS = 64
MAX_ENV = 64
MAX_STRING_BYTES = 4 * KIB
MAX_PATH_BYTES = 1024
MAX_PATH_PART_BYTES = 255
MAX_METADATA = 16
MAX_METADATA_BYTES = 512
MAX_ARTIFACTS_BYTES = 25 * MIB
MAX_SKIPPED_LISTED = 100
#: The part of a sandbox's memory that /work may fill.
WORK_SHARE = 0.5
#: Where files with an id land, beneath /work.
INPUTS = "inputs"
MAX_BODY_BYTES = 16 * MIB
#: Jobs that bring no more are not counted by their size: there are not enough of them to fill a memory.
SMALL_JOB_BYTES = 256 * 1024
#: A request or an output of more bytes is stored as a blob: a database is no place for it.
MAX_RECORD_BYTES = 256 * KIB

Status = Literal["queued", "running", "error", "cancelled", "timeout", "oom", "killed", "failed", "succeeded"]
#: `pool` and `cold` are what an engine answers; `template` is kept for the source of that name.
Source = Literal["pool", "template", "cold"]


def path_problem(path: str) -> str | None:
    """Why `path` may not name a file beneath /work, or None if it may."""
    raw = path.encode("utf-8", "surrogatepass")
    if not path:
        return "must not be empty"
    if len(raw) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    if "\0" in path:
        return "must not contain NUL"
    if path.startswith("/"):
        return "must be relative"
    for part in path.split("/"):
        if part == "":
            return "must not contain an empty part"
        if part == "..":
            return "must not contain '..'"
        if part == ".":
            return "must not contain '.'"
        if len(part.encode("utf-8", "surrogatepass")) > MAX_PATH_PART_BYTES:
            return f"has a part longer than {MAX_PATH_PART_BYTES} bytes"
    return None


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file to write before the start. `path` is relative to /work, `content` its bytes."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class JobInput:
    """A file to write before the start whose bytes are in storage. `path` is relative to /work.

    `area` is whose subtree the blob is in, `sha256` and `size` are what it must turn out to be.
    """

    path: str
    area: Literal["upload", "artifact"]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Job:
    """One run as the worker receives it.

    `language` may be an alias. `limits` holds only what was asked. `key` is whose run it is, for fairness.
    `most_running` and `most_waiting` are that key's share of the places and of the queue; None is no bound.
    `interpreter` "cold" starts the language's interpreter anew instead of the waiting one. `live`: somebody
    watches its output, so the language should not hold it back. `request_id` and `traceparent` say which
    request and which trace it belongs to: for the log and the traces alone.
    """

    run_id: str
    language: str
    code: str | None = None
    entrypoint: str | None = None
    files: tuple[JobFile, ...] = ()
    inputs: tuple[JobInput, ...] = ()
    args: tuple[str, ...] = ()
    stdin: str = ""
    env: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int | float] = field(default_factory=dict)
    key: str = ""
    isolation: Literal["default", "container", "gvisor"] = "default"
    interpreter: Literal["warm", "cold"] = "warm"
    live: bool = False
    request_id: str = ""
    traceparent: str = ""
    most_running: int | None = None
    most_waiting: int | None = None

    @property
    def size(self) -> int:
        """How many bytes it brings, where that is much; 0 for the many that bring little."""
        size = len(self.code or "") + sum(len(file.content) for file in self.files)
        return size if size > SMALL_JOB_BYTES else 0

    def to_json(self) -> dict[str, Any]:
        """The job as JSON-ready data; file contents as base64."""
        import base64

        data = {name: getattr(self, name) for name in self.__slots__ if name != "files"}
        data["args"] = list(self.args)
        data["inputs"] = [asdict(item) for item in self.inputs]
        data["files"] = [{"path": f.path, "content": base64.b64encode(f.content).decode()} for f in self.files]
        return data

    @classmethod
    def from_json(cls, data: object) -> Job:
        """Read what `to_json` wrote. Raises JobInvalid on anything else; semantics are checked elsewhere."""
        from sandbox.jobcodec import read_job

        return read_job(data)


@dataclass(frozen=True, slots=True)
class Usage:
    wall_ms: int = 0
    cpu_ms: int = 0
    max_rss_mb: int = 0
    queue_ms: int = 0


@dataclass(frozen=True, slots=True)
class Compile:
    """What the compile phase of a compiled language said. `exit_code` is null when the compiler was killed.

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
    """An output that is stored as a blob of the artifacts' area, in UTF-8, beside being told."""

    part: Literal["stdout", "stderr"]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Isolation:
    """What was in force for one run: facts of the engine, not wishes."""

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
    #: Whether DISABLE_SANDBOX_SECURITY took seccomp, AppArmor and no-new-privileges away.
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
    """How a run ended: independent facts plus the one `status` derived from them (API.md)."""

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
    #: The order and the lengths of the run's events; see `sandbox.events.EventLog.timeline`.
    timeline: list[list[Any]] = field(default_factory=list)
    #: The outputs that are too large for a record.
    outputs: tuple[OutputBlob, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready data, fields named as in API.md's run object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the worker did not take a job: an HTTP status and the fields of the error envelope."""

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after_s: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The refusal as JSON-ready data."""
        return asdict(self)

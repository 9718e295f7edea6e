"""The service's answers as frozen objects.

Each keeps the JSON it was made of in `raw`, so that a field that a newer service adds is not lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from runyard.errors import ProtocolError

T = TypeVar("T")
Json = dict[str, Any]

#: The states of a run that has not ended.
LIVE = frozenset({"queued", "running"})


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that a run used: milliseconds, and mebibytes at its peak."""

    wall_ms: int = 0
    cpu_ms: int = 0
    max_rss_mb: int = 0
    queue_ms: int = 0
    #: Sent to the hosts that the run might reach, and received from them, together.
    egress_bytes: int = 0
    #: True if something else ran in its session meanwhile.
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Compile:
    """The compiler's output for a program in Go or Rust; `exit_code` is None when it was killed."""

    stdout: str
    stderr: str
    exit_code: int | None
    wall_ms: int
    #: Older services do not count it.
    cpu_ms: int = 0


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run left. The program chose its name: never join it to a path unchecked."""

    id: str
    name: str
    path: str
    size: int
    sha256: str
    content_type: str
    #: A link that needs no key until `expires_at`; None once the file is gone.
    url: str | None
    expires_at: str | None


@dataclass(frozen=True, slots=True)
class SkippedArtifact:
    """A file that a run left and the service did not keep, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hint:
    """A reason why a program failed, and the remedy. Fields that do not apply are None or empty.

    The texts may quote the program's output: print them as text, and act on `code` alone.
    """

    code: str
    message: str
    #: A module (in bash a command) that is not there, and those that were probably meant.
    name: str | None = None
    near: tuple[str, ...] = ()
    #: A file, and those that the run had or left, relative to /work.
    path: str | None = None
    available: tuple[str, ...] = ()
    host: str | None = None
    line: int | None = None
    #: The field of `limits` that was reached.
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """A result of a run in a context: the value of its last expression, or what it displayed.

    A format that it does not have is None; `png`, `jpeg` and `pdf` are base64. The code that ran has made all of
    it: decode it with care, and show `html`, `svg` and `javascript` in a sandboxed frame alone.
    """

    text: str | None = None
    html: str | None = None
    markdown: str | None = None
    svg: str | None = None
    png: str | None = None
    jpeg: str | None = None
    pdf: str | None = None
    latex: str | None = None
    javascript: str | None = None
    #: JSON of any form; a table as lists by column; the data of a figure.
    json: Any = None
    data: Any = None
    chart: Any = None
    #: Other formats by MIME type.
    extra: Json = field(default_factory=dict)
    is_main_result: bool = False
    display_id: str | None = None
    #: It replaces the result with the same `display_id`.
    update: bool = False

    @classmethod
    def of(cls, data: object) -> Self:
        """Parse the API's JSON. Raises ProtocolError."""
        row = Row(data, "result")
        formats = ("text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "javascript")
        return cls(
            **{name: row.text_or_none(name) for name in formats},
            **{name: row.data.get(name) for name in ("json", "data", "chart")},
            extra=row.part("extra") or {},
            is_main_result=row.flag("is_main_result"),
            display_id=row.text_or_none("display_id"),
            update=row.flag("update"),
        )


@dataclass(frozen=True, slots=True)
class RunException:
    """The exception that ended a run in a context; `traceback` has the lines of the user's code."""

    name: str
    value: str
    traceback: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFailure:
    """Why the service failed a run whose status is `error`."""

    message: str
    type: str | None
    param: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """A run, in any state. Facts that are not known yet are None, zero or empty."""

    id: str
    status: str
    language: str
    exit_code: int | None
    signal: str | None
    stdout: str
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    timed_out: bool
    oom_killed: bool
    cancelled: bool
    usage: Usage
    compile: Compile | None
    artifacts: tuple[Artifact, ...]
    skipped_artifacts: tuple[SkippedArtifact, ...]
    skipped_artifacts_count: int
    limits: dict[str, int | float]
    metadata: dict[str, str]
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    error: RunFailure | None
    raw: Json = field(repr=False, compare=False)
    #: Empty with older services.
    hints: tuple[Hint, ...] = ()
    #: Of a run in a context of a session: the context, the number of the run in it, and its results.
    context: str | None = None
    execution_count: int | None = None
    results: tuple[RunResult, ...] = ()
    results_dropped: int = 0
    exception: RunException | None = None
    #: `lost`: the context's variables are gone.
    state: str | None = None
    #: The layer of its packages; None if it asked for none.
    layer: str | None = None
    #: Of a build or a call of a function; `output` is what the handler returned.
    function: str | None = None
    version: int | None = None
    output: Any = None

    @property
    def ended(self) -> bool:
        """Return whether the run has ended and cannot change any more."""
        return self.status not in LIVE

    @property
    def ok(self) -> bool:
        """Return whether the program exited with 0."""
        return self.status == "succeeded"

    @classmethod
    def of(cls, data: object) -> Self:
        """Parse the API's JSON. Raises ProtocolError."""
        row = Row(data, "run")
        return cls(
            id=row.text("id"),
            status=row.text("status"),
            language=row.text("language", ""),
            exit_code=row.number_or_none("exit_code"),
            signal=row.text_or_none("signal"),
            stdout=row.text("stdout", ""),
            stderr=row.text("stderr", ""),
            stdout_truncated=row.flag("stdout_truncated"),
            stderr_truncated=row.flag("stderr_truncated"),
            timed_out=row.flag("timed_out"),
            oom_killed=row.flag("oom_killed"),
            cancelled=row.flag("cancelled"),
            usage=_usage(row.part("usage")),
            compile=_compile(row.part("compile")),
            artifacts=tuple(artifact(item) for item in row.items("artifacts")),
            skipped_artifacts=tuple(_skipped(item) for item in row.items("skipped_artifacts")),
            skipped_artifacts_count=row.number("skipped_artifacts_count", 0),
            limits=row.part("limits") or {},
            metadata=row.part("metadata") or {},
            created_at=row.text_or_none("created_at"),
            started_at=row.text_or_none("started_at"),
            finished_at=row.text_or_none("finished_at"),
            error=_failure(row.part("error")),
            raw=row.data,
            hints=tuple(_hint(item) for item in row.items("hints")),
            context=row.text_or_none("context"),
            execution_count=row.number_or_none("execution_count"),
            results=tuple(RunResult.of(item) for item in row.items("results")),
            results_dropped=row.number("results_dropped", 0),
            exception=_exception(row.part("exception")),
            state=row.text_or_none("state"),
            layer=row.text_or_none("layer"),
            function=row.text_or_none("function"),
            version=row.number_or_none("version"),
            output=row.data.get("output"),
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run. `data` is text for stdout and stderr, a Run for `result`, else the API's JSON."""

    seq: int
    event: str
    data: Any
    t_ms: int

    @property
    def last(self) -> bool:
        """Return whether this event closes the stream."""
        return self.event in ("result", "error")

    @property
    def text(self) -> str:
        """Return the text of an output event; empty for other events."""
        return self.data if self.event in ("stdout", "stderr") and isinstance(self.data, str) else ""

    @property
    def tool_output(self) -> str:
        """Return a line of the tool that installs the run's packages; empty for other events."""
        found = self.data.get("output") if self.event == "info" and isinstance(self.data, dict) else None
        return found if isinstance(found, str) else ""

    @classmethod
    def of(cls, parsed: object) -> Self:
        """Parse the API's JSON. Raises ProtocolError."""
        row = Row(parsed, "event")
        kind, data = row.text("event"), row.data.get("data")
        return cls(row.number("seq"), kind, Run.of(data) if kind == "result" else data, row.number("t_ms", 0))


@dataclass(frozen=True, slots=True)
class File:
    """A file that the service keeps: one that was brought, or an artifact."""

    id: str
    name: str
    size: int
    sha256: str
    content_type: str
    created_at: str | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def of(cls, data: object) -> Self:
        """Parse the API's JSON. Raises ProtocolError."""
        row = Row(data, "file")
        return cls(
            row.text("id"),
            row.text("name", ""),
            row.number("size"),
            row.text("sha256", ""),
            row.text("content_type", ""),
            row.text_or_none("created_at"),
            row.data,
        )


@dataclass(frozen=True, slots=True)
class Language:
    """A language that programs may be in, and whether it is built."""

    id: str
    aliases: tuple[str, ...]
    version: str
    entry_file: str
    ready: bool
    example: str
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def of(cls, data: object) -> Self:
        """Parse the API's JSON. Raises ProtocolError."""
        row = Row(data, "language")
        aliases = tuple(str(alias) for alias in row.items("aliases"))
        version = row.data.get("version")
        return cls(
            row.text("id"),
            aliases,
            "" if version is None else str(version),
            row.text("entry_file", ""),
            row.flag("ready"),
            row.text("example", ""),
            row.data,
        )


@dataclass(frozen=True, slots=True)
class Key:
    """An API key. `key` is there only in the answer that made it."""

    id: str
    key: str | None
    plan: str | None
    prefix: str | None
    created_at: str | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def of(cls, data: object) -> Self:
        """Parse the API's JSON. Raises ProtocolError."""
        row = Row(data, "key")
        optional = (row.text_or_none(name) for name in ("key", "plan", "prefix", "created_at"))
        key, plan, prefix, created_at = optional
        return cls(row.text("id"), key, plan, prefix, created_at, row.data)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list, the newest first unless asked otherwise; `after=last_id` is the next."""

    data: tuple[T, ...]
    last_id: str | None
    has_more: bool


class Row:
    """A JSON object of the service, read field by field. Raises ProtocolError for what has not the right type."""

    def __init__(self, data: object, what: str) -> None:
        if not isinstance(data, dict):
            raise ProtocolError(f"unexpected response of the service: expected a {what}")
        self.data: Json = data
        self._what = what

    def text(self, name: str, default: str | None = None) -> str:
        value = self.data.get(name, default)
        return value if isinstance(value, str) else self._wrong(name)

    def text_or_none(self, name: str) -> str | None:
        value = self.data.get(name)
        return value if isinstance(value, str) or value is None else self._wrong(name)

    def number(self, name: str, default: int | None = None) -> int:
        value = self.data.get(name, default)
        return value if isinstance(value, int) and not isinstance(value, bool) else self._wrong(name)

    def number_or_none(self, name: str) -> int | None:
        return None if self.data.get(name) is None else self.number(name)

    def amount(self, name: str) -> float:
        value = self.data.get(name, 0)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else self._wrong(name)

    def flag(self, name: str) -> bool:
        return self.data.get(name) is True

    def part(self, name: str) -> Json | None:
        value = self.data.get(name)
        return value if isinstance(value, dict) or value is None else self._wrong(name)

    def items(self, name: str) -> list[Any]:
        value = self.data.get(name)
        if value is None:
            return []
        return value if isinstance(value, list) else self._wrong(name)

    def _wrong(self, name: str) -> Any:  # noqa: ANN401  # it never returns; every reader's own type will do
        raise ProtocolError(f"{self._what}.{name}: missing or of the wrong type")


def artifact(data: object) -> Artifact:
    """Parse the API's JSON. Raises ProtocolError."""
    row = Row(data, "artifact")
    return Artifact(
        row.text("id"),
        row.text("name", ""),
        row.text("path", ""),
        row.number("size"),
        row.text("sha256", ""),
        row.text("content_type", ""),
        row.text_or_none("url"),
        row.text_or_none("expires_at"),
    )


def _exception(data: Json | None) -> RunException | None:
    if data is None:
        return None
    row = Row(data, "exception")
    return RunException(row.text("name", ""), row.text("value", ""), tuple(map(str, row.items("traceback"))))


def _usage(data: Json | None) -> Usage:
    row = Row(data or {}, "usage")
    numbers = ("wall_ms", "cpu_ms", "max_rss_mb", "queue_ms", "egress_bytes")
    return Usage(**{name: row.number(name, 0) for name in numbers}, shared=row.flag("shared"))


def _compile(data: Json | None) -> Compile | None:
    if data is None:
        return None
    row = Row(data, "compile")
    return Compile(
        row.text("stdout", ""),
        row.text("stderr", ""),
        row.number_or_none("exit_code"),
        row.number("wall_ms", 0),
        row.number("cpu_ms", 0),
    )


def _skipped(data: object) -> SkippedArtifact:
    row = Row(data, "skipped_artifact")
    return SkippedArtifact(row.text("path", ""), row.text("reason", ""))


def _hint(data: object) -> Hint:
    row = Row(data, "hint")
    return Hint(
        code=row.text("code"),
        message=row.text("message", ""),
        name=row.text_or_none("name"),
        near=tuple(str(each) for each in row.items("near")),
        path=row.text_or_none("path"),
        available=tuple(str(each) for each in row.items("available")),
        host=row.text_or_none("host"),
        line=row.number_or_none("line"),
        limit=row.text_or_none("limit"),
    )


def _failure(data: Json | None) -> RunFailure | None:
    if data is None:
        return None
    row = Row(data, "error")
    return RunFailure(
        row.text("message", ""), row.text_or_none("type"), row.text_or_none("param"), row.text_or_none("code")
    )

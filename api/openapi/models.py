"""Define the models of the service's answers.

Answers are not made of them, which would cost every run its time: they are written down once as the document's
schemas, and `tests/api/test_openapi_answers.py` holds real answers to them, where a field that is not here is an
error. A release may add fields, so the document does not exclude further ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from api.http.pagination import LIMIT_MAX
from protocol.hints import MAX_AVAILABLE, MAX_HINTS, MAX_NEAR, HintCode
from protocol.job import MAX_SKIPPED_LISTED
from protocol.kernel import MAX_RESULTS
from protocol.limits import LIMIT_RULES
from protocol.states import RUN_STATES, Status

Count = Annotated[int, Field(ge=0)]
Time = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        json_schema_extra={"format": "date-time"},
        description="RFC 3339, in UTC.",
    ),
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
RunId = Annotated[str, Field(pattern=r"^run_[A-Za-z0-9]{24,64}$")]
SessionId = Annotated[str, Field(pattern=r"^sess_[a-z2-7]{26}$")]
FileId = Annotated[str, Field(pattern=r"^file_[A-Za-z0-9]{24,64}$")]


def may_be_absent(schema: dict[str, Any]) -> None:
    """Mark a field that is left out, not null, where it does not apply."""
    schema.pop("default", None)


def _open(schema: dict[str, Any]) -> None:
    schema.pop("additionalProperties", None)
    schema["required"] = [name for name in schema["properties"] if name in schema.get("required", ())]


class ResponseModel(BaseModel):
    """The base of every answer's model: no conversion, and no field that is not named."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra=_open)


class ErrorObject(ResponseModel):
    """An error. `code` is stable; `message` is for people; `param` is the dotted path of a field."""

    message: str
    type: Literal[
        "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
    ]
    param: str | None
    code: str


class Error(ResponseModel):
    """The body of every error. `run_id` is present if the error is about a run."""

    error: ErrorObject
    run_id: RunId | None = Field(default=None, json_schema_extra=may_be_absent)


class Usage(ResponseModel):
    """Resource usage of the program, without compiling."""

    wall_ms: Count
    cpu_ms: Count
    max_rss_mb: Count = Field(description="Peak memory of the whole sandbox.")
    queue_ms: Count = Field(description="Time in the queue.")
    egress_bytes: Count = Field(
        default=0,
        description="Bytes sent to the hosts that the run may reach and received from them; absent in old runs.",
    )
    shared: bool = Field(
        default=False,
        description=(
            "Whether a process or another run was alive in the run's session meanwhile: then CPU time and memory "
            "are of all of them. Absent in old runs."
        ),
    )


class Compile(ResponseModel):
    """The compiler's output and exit status, for compiled languages."""

    stdout: str
    stderr: str
    exit_code: int | None = Field(description="Null if the compiler was killed.")
    wall_ms: Count
    cpu_ms: Count = Field(description="CPU time of the compiler. Counted in the key's usage.")


class Artifact(ResponseModel):
    """A file that the program left in /work/outputs, with a link that needs no token."""

    id: FileId
    name: str
    path: str = Field(description="Relative to /work/outputs.")
    size: Count
    sha256: Sha256
    content_type: str
    url: str | None = Field(description="Valid until `expires_at`; null once the file has expired.")
    expires_at: Time | None


class SkippedArtifact(ResponseModel):
    """A file that was not stored, and the reason."""

    path: str
    reason: Literal[
        "symlink", "special_file", "too_large", "too_many", "too_deep", "unreadable", "changed", "bad_name",
        "not_stored",
    ]  # fmt: skip


class Hint(ResponseModel):
    """A reason why the program failed, and the remedy. Only the fields that apply are present.

    A hint whose facts the service knows (memory, time, processes) precedes those that were read from the output.
    """

    code: HintCode
    message: str
    name: str | None = Field(
        default=None, description="The module, or in bash the command.", json_schema_extra=may_be_absent
    )
    near: Annotated[list[str], Field(max_length=MAX_NEAR)] | None = Field(
        default=None,
        description="Available modules, commands or files that were probably meant.",
        json_schema_extra=may_be_absent,
    )
    path: str | None = Field(default=None, description="The file.", json_schema_extra=may_be_absent)
    available: Annotated[list[str], Field(max_length=MAX_AVAILABLE)] | None = Field(
        default=None,
        description="Files that the run had or left, relative to /work, the nearest first.",
        json_schema_extra=may_be_absent,
    )
    host: str | None = Field(
        default=None, description="The host that cannot be reached.", json_schema_extra=may_be_absent
    )
    line: int | None = Field(default=None, description="The line of the error.", json_schema_extra=may_be_absent)
    limit: str | None = Field(
        default=None, description="The field of `limits` that was reached.", json_schema_extra=may_be_absent
    )


if TYPE_CHECKING:
    Limits = ResponseModel
else:
    Limits = create_model(
        "Limits",
        __base__=ResponseModel,
        __doc__="The limits that applied.",
        **{
            name: (int, Field(ge=0, description=rule.sentence))
            if rule.integer
            else (float, Field(gt=0, description=rule.sentence))
            for name, rule in LIMIT_RULES.items()
        },
    )


class Isolation(ResponseModel):
    """The confinement of this run, as measured."""

    engine: str
    runtime: str
    source: Literal["pool", "template", "cold"]
    network: Literal["none", "proxy"]
    seccomp: Digest | None
    apparmor: str | None
    user_namespace: bool
    image: str
    platform: str | None = Field(
        description="gVisor's platform for intercepting system calls; null without gVisor."
    )
    relaxed: bool = Field(
        default=False,
        description="True if DISABLE_SANDBOX_SECURITY was set. Absent in runs of older versions.",
        json_schema_extra=may_be_absent,
    )


class RunException(ResponseModel):
    """The exception that ended a cell."""

    name: str
    value: str
    traceback: list[str] = Field(description="Lines of the user's cells only.")


class RunResult(ResponseModel):
    """A result of a cell: the value of its last expression, or what it displayed, in every format that it has."""

    text: str | None = Field(default=None, json_schema_extra=may_be_absent)
    html: str | None = Field(default=None, json_schema_extra=may_be_absent)
    markdown: str | None = Field(default=None, json_schema_extra=may_be_absent)
    svg: str | None = Field(default=None, json_schema_extra=may_be_absent)
    png: str | None = Field(default=None, description="Base64.", json_schema_extra=may_be_absent)
    jpeg: str | None = Field(default=None, description="Base64.", json_schema_extra=may_be_absent)
    pdf: str | None = Field(default=None, description="Base64.", json_schema_extra=may_be_absent)
    latex: str | None = Field(default=None, json_schema_extra=may_be_absent)
    json_value: Any = Field(default=None, alias="json", json_schema_extra=may_be_absent)
    javascript: str | None = Field(default=None, json_schema_extra=may_be_absent)
    data: Any = Field(default=None, description="A table, as lists by column.", json_schema_extra=may_be_absent)
    chart: Any = Field(default=None, description="The data of a figure.", json_schema_extra=may_be_absent)
    extra: dict[str, Any] | None = Field(
        default=None, description="Other formats, by MIME type.", json_schema_extra=may_be_absent
    )
    is_main_result: bool = Field(description="It is the value of the last expression.")
    display_id: str | None
    update: bool = Field(description="It replaces the display with the same `display_id`.")


class Run(ResponseModel):
    """A run, in any state. See `status` for the outcome of the program."""

    id: RunId
    object: Literal["run"]
    status: Status = Field(
        description="; ".join(f"`{state.status}`: {state.sentence}" for state in RUN_STATES) + "."
    )
    language: str
    exit_code: int | None
    signal: str | None
    timed_out: bool
    oom_killed: bool
    cancelled: bool
    stdout: str
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    usage: Usage
    compile: Compile | None
    artifacts: list[Artifact]
    skipped_artifacts: Annotated[list[SkippedArtifact], Field(max_length=MAX_SKIPPED_LISTED)]
    skipped_artifacts_count: Count
    hints: Annotated[list[Hint], Field(max_length=MAX_HINTS)] = Field(
        default=[],
        description="Why the program failed, and the remedy, where it is known. Absent in runs of older versions.",
        json_schema_extra=may_be_absent,
    )
    limits: Limits
    metadata: dict[str, str]
    code_sha256: Sha256
    isolation: Isolation | None = Field(description="Null until the run has a sandbox.")
    session_id: SessionId | None = Field(description="The session that it ran in; null for a sandbox of its own.")
    external_id: str | None = Field(description="The client's own name for it.")
    layer: str | None = Field(
        default=None,
        description="The layer of its packages, for `GET /v1/layers/{id}`; null if it asked for none. Absent in "
        "runs of older versions.",
        json_schema_extra=may_be_absent,
    )
    context: str | None = Field(description="The context whose cell it was; null for a process of its own.")
    execution_count: int | None = Field(description="The number of the cell in its context.")
    state: Literal["kept", "lost"] | None = Field(
        description="`lost`: the kernel of the context had to be ended, and its variables are gone."
    )
    exception: RunException | None = Field(description="The exception that ended the cell.")
    results: list[RunResult] = Field(max_length=MAX_RESULTS)
    results_dropped: Count = Field(description="Results beyond 100, or beyond 10 MiB together.")
    function: str | None = Field(description="The function that it called, or built.")
    version: int | None = Field(description="The version of that function.")
    output: Any = Field(
        description="What the handler returned; null if it failed, and in all runs that are no calls of a function."
    )
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    error: ErrorObject | None = Field(description="The service's error, if `status` is `error`.")
    request: dict[str, Any] | None = Field(
        default=None,
        description="The original request; only with `include=request`.",
        json_schema_extra=may_be_absent,
    )


class AdminRun(ResponseModel):
    """A run of any key, without its program, input and output."""

    id: RunId
    object: Literal["run"]
    key: str = Field(description="The id of the run's key.")
    label: str = Field(description="The label of the key; empty if it has none, or is not there any more.")
    status: Status
    language: str
    exit_code: int | None
    signal: str | None
    timed_out: bool
    oom_killed: bool
    cancelled: bool
    usage: Usage
    limits: Limits
    metadata: dict[str, str]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    error: ErrorObject | None = Field(description="The service's error, if `status` is `error`.")


class File(ResponseModel):
    """An uploaded file, or an artifact of a run."""

    id: FileId
    object: Literal["file"]
    name: str
    size: Count
    sha256: Sha256
    content_type: str
    created_at: Time


Row = TypeVar("Row", bound=BaseModel)


class Page(ResponseModel, Generic[Row]):
    """A page of a list. `next` leads to the next one, which is usually the one `after` its `last_id`."""

    object: Literal["list"]
    data: Annotated[list[Row], Field(max_length=LIMIT_MAX)]
    first_id: str | None
    last_id: str | None
    has_more: bool
    next: str | None = Field(description="The link to the next page, with the same filters; null on the last page.")


class RunList(Page[Run]):
    """A page of runs."""


class AdminRunList(Page[AdminRun]):
    """A page of runs of all keys."""


class FileList(Page[File]):
    """A page of files."""


class RunDeleted(ResponseModel):
    """The run was deleted, with its request, events and artifacts."""

    id: RunId
    object: Literal["run"]
    deleted: Literal[True]


class FileDeleted(ResponseModel):
    """The file was deleted."""

    id: FileId
    object: Literal["file"]
    deleted: Literal[True]


class Package(ResponseModel):
    """A preinstalled library."""

    name: str
    version: str


class Language(ResponseModel):
    """A supported language."""

    id: str
    aliases: list[str]
    version: str | None = Field(description="Null until its image is built.")
    entry_file: str = Field(description="The path, relative to /work, to which `code` is written.")
    packages: list[Package]
    ready: bool
    example: str
    keeps: Literal["variables", "files"] = Field(description="Kept from one run of a session to the next.")
    kernels: list[str] = Field(description="The languages of the contexts that its sessions may have.")
    results: bool = Field(description="Runs with a context have results: values, figures, tables.")
    package_ecosystem: Literal["pip", "npm", "go", "cargo"] | None = Field(
        description="The form of the entries of `packages` in a run; null if its runs cannot have any."
    )


class LanguageList(ResponseModel):
    """All languages."""

    object: Literal["list"]
    data: list[Language]


class Health(ResponseModel):
    """The checks and their results, and the version of the service."""

    status: Literal["ok", "degraded", "fail"]
    version: str
    checks: dict[str, Literal["ok", "fail"]]


class Alive(ResponseModel):
    """The process answers."""

    status: Literal["ok"]

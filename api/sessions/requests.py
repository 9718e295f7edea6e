"""Parse the bodies of calls about sessions: the shape by Pydantic, then the rules, one error at a time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import ApiError, invalid
from api.http.field_names import FieldNames
from api.http.validation import shape_error, unknown_field
from api.runs import request_schema
from api.runs.field_names import SYNONYMS
from api.runs.requests import (
    EXTERNAL_ID,
    PACKAGES,
    ExternalId,
    FileIn,
    Isolation,
    NetworkIn,
    Packages,
    RunIn,
    check_external_id,
    checked_outputs,
    parse_run,
)
from protocol.job import (
    DEFAULT_OUTPUTS,
    MAX_CODE_BYTES,
    MAX_ENV,
    MAX_INLINE_FILES,
    MAX_METADATA,
    MAX_PATH_BYTES,
    MAX_STRING_BYTES,
)
from protocol.limits import limit_problem
from protocol.network import NetworkAccess
from protocol.session import (
    DEFAULT_AGE_S,
    DEFAULT_DISK_MB,
    DEFAULT_FREEZE_S,
    DEFAULT_IDLE_S,
    DEFAULT_LIMITS,
    MAX_AGE_S,
    MAX_FREEZE_S,
    MAX_IDLE_S,
    MAX_TERMINAL_CELLS,
    SESSION_LIMIT_RULES,
    SESSION_LIMITS,
    TIMES,
    WORKDIRS,
    OnIdle,
    SessionChange,
    TerminalSize,
    default_disk_mb,
    most_disk_mb,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.datastructures import MultiDict

    from api.runs.requests import InputIn
    from protocol.job import JobFile

Model = TypeVar("Model", bound=BaseModel)

MAX_NAME = 128
MAX_TAG = 96
MAX_ARGV = 256
MAX_TIMEOUT_MS = 86_400_000
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 26


def _name_schema(schema: dict[str, Any], name: str, most: int) -> None:
    schema["properties"][name]["anyOf"][0] |= {"pattern": f"^[!-~]{{1,{most}}}$"}


def _env_schema(schema: dict[str, Any]) -> None:
    variables = schema["properties"]["env"]["anyOf"][0]
    variables["propertyNames"] = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
    variables["additionalProperties"] = {"type": "string", "pattern": r"^[^\x00]*$"}


def _session_schema(schema: dict[str, Any]) -> None:
    """Add the rules that are checked by hand, in place."""
    _name_schema(schema, "name", MAX_NAME)
    _env_schema(schema)
    schema["properties"]["outputs"] = request_schema.outputs()
    schema["properties"]["limits"]["anyOf"][0] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {
                "type": ["integer" if rule.integer else "number", "null"],
                "minimum": rule.number(rule.minimum),
                "maximum": rule.number(rule.ceiling),
                "default": (DEFAULT_LIMITS | {"disk_mb": DEFAULT_DISK_MB})[name],
            }
            for name, rule in SESSION_LIMIT_RULES.items()
        },
    }


def _context_schema(schema: dict[str, Any]) -> None:
    """Add the rules that are checked by hand, in place."""
    _name_schema(schema, "name", MAX_NAME)
    _env_schema(schema)
    schema["properties"]["cwd"]["anyOf"][0] |= {"pattern": r"^[^\x00]*$"}


def _process_schema(schema: dict[str, Any]) -> None:
    """Add the rules that are checked by hand, in place."""
    _name_schema(schema, "tag", MAX_TAG)
    _env_schema(schema)
    fields = schema["properties"]
    text = {"type": "string", "pattern": r"^[^\x00]*$"}
    fields["argv"]["anyOf"][0] |= {"items": text, "minItems": 1, "prefixItems": [text | {"minLength": 1}]}
    for name in ("command", "cwd"):
        fields[name]["anyOf"][0] |= {"pattern": r"^[^\x00]*$"}
    schema["oneOf"] = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}, other: {"type": "null"}}}
        for name, other in (("argv", "command"), ("command", "argv"))
    ]


class SessionIn(BaseModel):
    """The body of `POST /v1/sessions`. Null is the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_session_schema)

    language: str
    name: (
        Annotated[str, Field(description="Unique among your live sessions; visible ASCII, at most 128.")] | None
    ) = None
    limits: dict[str, Any] | None = Field(
        None,
        description="`memory_mb`, `cpus`, `pids`, and `disk_mb` for /work, at most `memory_mb` - 64 or half of it.",
    )
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None
    files: Annotated[list[FileIn], Field(max_length=MAX_INLINE_FILES)] | None = Field(
        None, description="Written beneath /work before the session is ready."
    )
    workdir: Literal["/work", "/home/user", "/workspace", "/mnt/data"] | None = Field(
        None, description="Where programs find /work: the value of HOME and PWD. Default: /work."
    )
    outputs: str | None = None
    idle_timeout_s: Annotated[int, Field(ge=1, le=MAX_IDLE_S)] | None = None
    max_age_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = None
    isolation: Isolation | None = None
    network: NetworkIn | None = Field(
        None, description="The hosts that its programs may reach through the proxy. Default: none."
    )
    packages: Packages | None = Field(None, description=PACKAGES)
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = None
    external_id: ExternalId | None = Field(None, description=EXTERNAL_ID)
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = Field(
        None, description="End it so long from now, whatever happens in it, in place of `idle_timeout_s`."
    )
    freeze_after_s: Annotated[int, Field(ge=0, le=MAX_FREEZE_S)] | None = Field(
        None, description="Freeze it after so long without activity; 0 is never. Default: 30."
    )
    on_idle: OnIdle | None = Field(None, description="Whether it ends or is paused after its idle time.")
    background: bool | None = Field(None, description="Answer at once, with 202, while it is created.")
    stream: bool | None = Field(None, description="Answer with events while it is created.")


class SessionPatchIn(BaseModel):
    """The body of `PATCH /v1/sessions/{id}`. A field that is left out, or null, stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    idle_timeout_s: Annotated[int, Field(ge=1, le=MAX_IDLE_S)] | None = None
    max_age_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = None
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = Field(
        None, description="End it so long from now, whatever happens in it, in place of `idle_timeout_s`."
    )
    freeze_after_s: Annotated[int, Field(ge=0, le=MAX_FREEZE_S)] | None = None
    on_idle: OnIdle | None = None
    network: NetworkIn | None = Field(
        None,
        description=(
            "Replaces the hosts that its programs may reach; with none in `allow` they reach no host any more. "
            "Open connections to hosts that are not permitted any more are closed."
        ),
    )
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = Field(
        None, description="Replaces all metadata."
    )


class TerminalIn(BaseModel):
    """The size of a terminal, in characters."""

    model_config = ConfigDict(extra="forbid", strict=True)

    cols: Annotated[int, Field(ge=1, le=MAX_TERMINAL_CELLS)]
    rows: Annotated[int, Field(ge=1, le=MAX_TERMINAL_CELLS)]


class SessionRunIn(RunIn):
    """The body of `POST /v1/sessions/{id}/runs`."""

    context: str | None = Field(
        None,
        description="The context that the code is a cell of: its id or its name. Default: that of the language.",
        json_schema_extra={"pattern": f"^[!-~]{{1,{MAX_NAME}}}$"},
    )


class ContextIn(BaseModel):
    """The body of `POST /v1/sessions/{id}/contexts`."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_context_schema)

    language: str | None = Field(None, description="Default: the session's.")
    cwd: str | None = Field(None, description="The working directory. Default: /work.")
    name: str | None = Field(None, description=f"A name of your own; visible ASCII, at most {MAX_NAME}.")
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None


class CursorIn(BaseModel):
    """The body of `…/complete` and `…/inspect`: a cell that is being written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    code: Annotated[str, Field(max_length=MAX_CODE_BYTES)]
    cursor: Annotated[int, Field(ge=0, le=MAX_CODE_BYTES)] | None = Field(
        None, description="In characters from the start. Default: the end."
    )


class ProcessIn(BaseModel):
    """The body of `POST /v1/sessions/{id}/processes`: either `argv` or `command`."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_process_schema)

    argv: Annotated[list[str], Field(max_length=MAX_ARGV)] | None = None
    command: str | None = Field(None, description="A line for bash.")
    cwd: str | None = Field(None, description="The working directory. Default: /work.")
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None
    stdin: str | None = Field(None, description="The input, and then its end.")
    stdin_open: bool | None = Field(None, description="Leave the input open for more.")
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] | None = None
    tag: str | None = Field(None, description="A name of your own; visible ASCII, at most 96.")
    wait: bool | None = Field(None, description="Answer when the process has ended, with its output.")
    stream: bool | None = Field(None, description="Answer with its events as they happen.")
    encoding: Literal["text", "base64"] | None = Field(None, description="Of output in the answer. Default: text.")
    pty: TerminalIn | None = Field(None, description="Give it a terminal of this size.")
    on_disconnect: Literal["kill"] | None = Field(
        None, description="Kill it when the client that waits for it or streams it goes away."
    )
    keep_awake: bool | None = Field(None, description="Do not freeze the session while the process lives.")


#: As in an entry: a name of any bytes.
RAW: Any = Field(None, description="Paths are percent-encoded bytes, as in an entry with `raw`.")


class MkdirIn(BaseModel):
    """The body of `POST …/files/mkdir`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    parents: bool | None = Field(None, description="Also make the directories above it; it may exist.")
    raw: bool | None = RAW


class WatcherIn(BaseModel):
    """The body of `POST …/files/watchers`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    recursive: bool | None = Field(None, description="Also all directories beneath it.")
    raw: bool | None = RAW


class MoveIn(BaseModel):
    """The body of `POST …/files/move` and `…/files/copy`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: str = Field(alias="from")
    to: str
    overwrite: bool | None = Field(None, description="Replace a file that is there.")
    raw: bool | None = RAW


class ChmodIn(BaseModel):
    """The body of `POST …/files/chmod`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    mode: str = Field(description="The permission bits, in octal.", json_schema_extra={"pattern": "^[0-7]{3,4}$"})
    raw: bool | None = RAW


_NAMES: dict[type[BaseModel], FieldNames] = {
    SessionIn: FieldNames.of(SessionIn, SYNONYMS, limits=SESSION_LIMITS),
    SessionPatchIn: FieldNames.of(SessionPatchIn, network=("allow", "deny")),
    ContextIn: FieldNames.of(ContextIn),
    CursorIn: FieldNames.of(CursorIn),
    ProcessIn: FieldNames.of(ProcessIn, pty=("cols", "rows")),
    TerminalIn: FieldNames.of(TerminalIn),
    MkdirIn: FieldNames.of(MkdirIn),
    WatcherIn: FieldNames.of(WatcherIn),
    MoveIn: FieldNames.of(MoveIn),
    ChmodIn: FieldNames.of(ChmodIn),
}


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A session that keeps every rule but those that only the worker decides."""

    language: str
    name: str | None
    limits: dict[str, int | float]
    env: dict[str, str]
    files: tuple[JobFile, ...]
    inputs: tuple[InputIn, ...]
    workdir: str
    outputs: str
    idle_timeout_s: int
    max_age_s: int
    isolation: Isolation
    metadata: dict[str, str]
    external_id: str | None
    expires_in_s: int | None
    freeze_after_s: int
    on_idle: OnIdle
    background: bool
    stream: bool
    #: The limits and times that were asked for; the others have their defaults.
    given: frozenset[str]
    #: None for one that asks for no host.
    network: NetworkAccess | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionPatch:
    """A change that keeps every rule; `metadata` None leaves it as it is."""

    change: SessionChange
    metadata: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class ProcessRequest:
    """A process that keeps every rule."""

    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    stdin: bytes
    stdin_open: bool
    timeout_ms: int | None
    tag: str | None
    wait: bool
    stream: bool
    encoding: Literal["text", "base64"]
    pty: dict[str, int] | None
    kill_if_gone: bool
    keep_awake: bool


def new_session_id() -> str:
    """Return a new id, which may become a host name: `sess_` and 26 characters of a-z and 2-7."""
    return "sess_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def parse_session(data: dict[str, Any]) -> SessionRequest:
    """Return a session's request from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = _parsed(SessionIn, data)
    _check_visible(body.name, "name", MAX_NAME)
    check_external_id(body.external_id)
    if body.background and body.stream:
        raise invalid("stream: not together with background", param="stream")
    limits = _resolved(_limits(body.limits or {}))
    # A session's files, variables and metadata keep the rules of a run's.
    shared = {name: data.get(name) for name in ("env", "files", "metadata", "network", "packages")}
    like = parse_run({"language": body.language, "code": "-", **shared})
    return SessionRequest(
        language=body.language,
        name=body.name,
        limits=limits,
        env=like.env,
        files=like.files,
        inputs=like.inputs,
        workdir=body.workdir or WORKDIRS[0],
        outputs=checked_outputs(body.outputs) or DEFAULT_OUTPUTS,
        idle_timeout_s=body.idle_timeout_s or DEFAULT_IDLE_S,
        max_age_s=body.max_age_s or DEFAULT_AGE_S,
        isolation=body.isolation or "default",
        metadata=like.metadata,
        external_id=body.external_id,
        expires_in_s=body.expires_in_s,
        freeze_after_s=DEFAULT_FREEZE_S if body.freeze_after_s is None else body.freeze_after_s,
        on_idle=body.on_idle or "end",
        background=bool(body.background),
        stream=bool(body.stream),
        network=like.network,
        packages=like.packages,
        given=frozenset(name for name, value in {**data, **(body.limits or {})}.items() if value is not None),
    )


def parse_patch(data: dict[str, Any]) -> SessionPatch:
    """Return a change from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = _parsed(SessionPatchIn, data)
    given = {name: data[name] for name in ("metadata", "network") if data.get(name) is not None}
    like = parse_run({"language": "-", "code": "-", **given})
    times = {name: getattr(body, name) for name in (*TIMES, "on_idle")}
    network = (like.network or NetworkAccess(())) if "network" in given else None
    return SessionPatch(SessionChange(**times, network=network), like.metadata if "metadata" in given else None)


def parse_process(data: dict[str, Any]) -> ProcessRequest:
    """Return a process's request from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = _parsed(ProcessIn, data)
    if (body.argv is None) == (body.command is None):
        raise invalid("argv: give either argv or command", param="argv")
    argv = body.argv if body.argv is not None else ["bash", "-c", str(body.command)]
    if not argv or not argv[0]:
        raise invalid("argv: must begin with the name of a program", param="argv")
    for index, text in enumerate(argv):
        _check_text(text, f"argv.{index}" if body.command is None else "command", 32 * MAX_STRING_BYTES)
    cwd = body.cwd or "/work"
    _check_text(cwd, "cwd", MAX_PATH_BYTES)
    _check_visible(body.tag, "tag", MAX_TAG)
    env = parse_run({"language": "-", "code": "-", "env": data.get("env")}).env
    if body.stdin is not None and body.stdin_open:
        raise invalid("stdin_open: not together with stdin, which ends the input", param="stdin_open")
    if body.stream and body.wait:
        raise invalid("stream: not together with wait", param="stream")
    if body.on_disconnect and not (body.wait or body.stream):
        raise invalid("on_disconnect: is for wait or stream; else no client stays", param="on_disconnect")
    if body.pty is not None and body.stdin_open is False:
        raise invalid("stdin_open: the input of a terminal stays open", param="stdin_open")
    return ProcessRequest(
        argv=tuple(argv),
        cwd=cwd if cwd.startswith("/") else f"/work/{cwd}",
        env=env,
        stdin=(body.stdin or "").encode(),
        stdin_open=bool(body.stdin_open) or body.pty is not None,
        timeout_ms=body.timeout_ms,
        tag=body.tag,
        wait=bool(body.wait),
        stream=bool(body.stream),
        encoding=body.encoding or "text",
        pty=None if body.pty is None else body.pty.model_dump(),
        kill_if_gone=body.on_disconnect == "kill",
        keep_awake=bool(body.keep_awake),
    )


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """A context that is asked for; None is the default."""

    language: str | None
    cwd: str
    name: str | None
    env: dict[str, str]


def parse_context(data: dict[str, Any]) -> ContextRequest:
    """Return a context's request from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = _parsed(ContextIn, data)
    cwd = body.cwd or "/work"
    _check_text(cwd, "cwd", MAX_PATH_BYTES)
    _check_visible(body.name, "name", MAX_NAME)
    env = parse_run({"language": "-", "code": "-", "env": data.get("env")}).env
    return ContextRequest(body.language, cwd if cwd.startswith("/") else f"/work/{cwd}", body.name, env)


def parse_cursor(data: dict[str, Any]) -> tuple[str, int]:
    """Return a cell that is being written, and where. Raises ApiError 400 naming the first wrong field."""
    body = _parsed(CursorIn, data)
    _check_text(body.code, "code", MAX_CODE_BYTES)
    return body.code, len(body.code) if body.cursor is None else min(body.cursor, len(body.code))


def parse_size(data: dict[str, Any]) -> TerminalSize:
    """Return the size of a terminal from its JSON. Raises ApiError 400 naming the first wrong field."""
    size = _parsed(TerminalIn, data)
    return TerminalSize(size.cols, size.rows)


def parse_change(model: type[Model], data: dict[str, Any]) -> Model:
    """Return the body of a change of files. Raises ApiError 400 naming the first wrong field."""
    return _parsed(model, data)


def parse_mode(text: str | None) -> bytes:
    """Return permission bits as octal digits; nothing where none are given. Raises ApiError 400."""
    if text is None:
        return b""
    if not (3 <= len(text) <= 4 and set(text) <= set("01234567")):
        raise invalid("mode: must be octal digits such as 644", param="mode")
    return text.encode()


def parse_query(arguments: MultiDict[str, str], *known: str) -> dict[str, str]:
    """Return the parameters of a query, each given once. Raises ApiError 400 for one that is not known."""
    for name, values in arguments.lists():
        if name not in known:
            supported = ", ".join(known) or "none"
            raise invalid(f"the query has an unknown parameter; supported: {supported}", code="unknown_field")
        if len(values) > 1:
            raise invalid(f"{name}: is given twice", param=name)
    return arguments.to_dict()


def parse_flag(arguments: Mapping[str, str], name: str) -> bool:
    """Return whether a parameter is `1`; it may be left out. Raises ApiError 400 for all but `0` and `1`."""
    value = arguments.get(name, "0")
    if value not in ("0", "1"):
        raise invalid(f"{name}: must be 0 or 1", param=name)
    return value == "1"


def parse_path(arguments: Mapping[str, str], name: str = "path") -> bytes:
    """Return the path of a file in a query, as bytes. Raises ApiError 400."""
    if name not in arguments:
        raise invalid(f"{name}: is required", param=name, code="missing_field")
    return checked_path(arguments[name], name)


def body_path(text: str, name: str, *, raw: bool | None) -> bytes:
    """Return a path of a body as bytes, percent-encoded ones if it is `raw`. Raises ApiError 400."""
    return checked_path(unquote_to_bytes(text).decode("utf-8", "surrogateescape") if raw else text, name)


def checked_path(text: str, name: str) -> bytes:
    """Return a path as bytes. Raises ApiError 400."""
    path = text.encode("utf-8", "surrogateescape")
    if not path:
        raise invalid(f"{name}: must not be empty", param=name, code="invalid_path")
    if len(path) > MAX_PATH_BYTES:
        problem = f"{name}: {len(path)} bytes, the maximum is {MAX_PATH_BYTES}"
        raise invalid(problem, param=name, code="invalid_path")
    if b"\0" in path:
        raise invalid(f"{name}: must not contain NUL", param=name, code="invalid_path")
    return path


def _parsed(model: type[Model], data: dict[str, Any]) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as e:
        problem = e.errors(include_url=False, include_input=False)[0]
        if problem["type"] in ("greater_than_equal", "less_than_equal"):
            raise _out_of_range(".".join(map(str, problem["loc"]))) from e
        raise shape_error(e, _NAMES[model]) from e


_CELLS = (1, MAX_TERMINAL_CELLS)
_RANGES = {
    **TIMES,
    "timeout_ms": (1, MAX_TIMEOUT_MS),
    "cursor": (0, MAX_CODE_BYTES),
    "cols": _CELLS,
    "rows": _CELLS,
}


def _out_of_range(name: str) -> ApiError:
    least, most = _RANGES[name.rpartition(".")[2]]
    return invalid(f"{name}: must be an integer from {least} to {most}", param=name)


def _limits(given: dict[str, Any]) -> dict[str, int | float]:
    limits: dict[str, int | float] = {}
    for name, value in given.items():
        if name not in SESSION_LIMITS:
            raise unknown_field(("limits", name), _NAMES[SessionIn])
        if value is None:
            continue
        problem = limit_problem(name, value, SESSION_LIMIT_RULES)
        if problem is not None:
            raise invalid(problem.message, param=f"limits.{name}", code=problem.code)
        limits[name] = value
    return limits


def _resolved(asked: dict[str, int | float]) -> dict[str, int | float]:
    """Return all limits of a session. Raises ApiError 400 for a disk that leaves too little of the memory."""
    limits = DEFAULT_LIMITS | asked
    most = most_disk_mb(limits["memory_mb"])
    if limits.setdefault("disk_mb", default_disk_mb(limits["memory_mb"])) > most:
        message = (
            f"limits.disk_mb: {limits['disk_mb']} exceeds {most}, the maximum for memory_mb {limits['memory_mb']}"
        )
        raise invalid(message, param="limits.disk_mb", code="limit_exceeds_maximum")
    return limits


def _check_visible(text: str | None, name: str, most: int) -> None:
    if text is not None and not (0 < len(text) <= most and all("!" <= letter <= "~" for letter in text)):
        raise invalid(f"{name}: must be 1 to {most} visible ASCII characters", param=name)


def _check_text(text: str, name: str, most: int) -> None:
    if "\0" in text:
        raise invalid(f"{name}: must not contain NUL", param=name)
    size = len(text.encode())
    if size > most:
        raise invalid(f"{name}: {size} bytes, the maximum is {most}", param=name, code="too_long")

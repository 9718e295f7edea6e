"""Parse the bodies of calls about sessions: the shape by Pydantic, then the rules, one error at a time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import ApiError, invalid
from api.http.field_names import FieldNames
from api.http.validation import shape_error, unknown_field
from api.runs.field_names import SYNONYMS
from api.runs.requests import FileIn, Isolation, parse_run
from protocol.job import MAX_ENV, MAX_INLINE_FILES, MAX_METADATA, MAX_PATH_BYTES, MAX_STRING_BYTES
from protocol.limits import LIMIT_RULES, limit_problem
from protocol.session import (
    DEFAULT_AGE_S,
    DEFAULT_IDLE_S,
    DEFAULT_LIMITS,
    MAX_AGE_S,
    MAX_IDLE_S,
    SESSION_LIMITS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.datastructures import MultiDict

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
    rules = {name: LIMIT_RULES[name] for name in SESSION_LIMITS}
    schema["properties"]["limits"]["anyOf"][0] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {
                "type": ["integer" if rule.integer else "number", "null"],
                "minimum": rule.number(rule.minimum),
                "maximum": rule.number(rule.ceiling),
                "default": DEFAULT_LIMITS[name],
            }
            for name, rule in rules.items()
        },
    }


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
    limits: dict[str, Any] | None = Field(None, description="`memory_mb`, `cpus` and `pids`.")
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None
    files: Annotated[list[FileIn], Field(max_length=MAX_INLINE_FILES)] | None = Field(
        None, description="Inline files, written beneath /work."
    )
    idle_timeout_s: Annotated[int, Field(ge=1, le=MAX_IDLE_S)] | None = None
    max_age_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = None
    isolation: Isolation | None = None
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = None


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


class MkdirIn(BaseModel):
    """The body of `POST …/files/mkdir`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    parents: bool | None = Field(None, description="Also make the directories above it; it may exist.")


class MoveIn(BaseModel):
    """The body of `POST …/files/move` and `…/files/copy`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: str = Field(alias="from")
    to: str
    overwrite: bool | None = Field(None, description="Replace a file that is there.")


class ChmodIn(BaseModel):
    """The body of `POST …/files/chmod`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    mode: str = Field(description="The permission bits, in octal.", json_schema_extra={"pattern": "^[0-7]{3,4}$"})


_NAMES: dict[type[BaseModel], FieldNames] = {
    SessionIn: FieldNames.of(SessionIn, SYNONYMS, limits=SESSION_LIMITS),
    ProcessIn: FieldNames.of(ProcessIn),
    MkdirIn: FieldNames.of(MkdirIn),
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
    idle_timeout_s: int
    max_age_s: int
    isolation: Isolation
    metadata: dict[str, str]


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


def new_session_id() -> str:
    """Return a new id, which may become a host name: `sess_` and 26 characters of a-z and 2-7."""
    return "sess_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def parse_session(data: dict[str, Any]) -> SessionRequest:
    """Return a session's request from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = _parsed(SessionIn, data)
    _check_visible(body.name, "name", MAX_NAME)
    limits = DEFAULT_LIMITS | _limits(body.limits or {})
    # A session's files, variables and metadata keep the rules of a run's.
    shared = {name: data.get(name) for name in ("env", "files", "metadata")}
    like = parse_run({"language": body.language, "code": "-", **shared})
    if like.inputs:
        raise invalid("files: a session takes inline files only", param="files", code="not_supported")
    return SessionRequest(
        language=body.language,
        name=body.name,
        limits=limits,
        env=like.env,
        files=like.files,
        idle_timeout_s=body.idle_timeout_s or DEFAULT_IDLE_S,
        max_age_s=body.max_age_s or DEFAULT_AGE_S,
        isolation=body.isolation or "default",
        metadata=like.metadata,
    )


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
    return ProcessRequest(
        argv=tuple(argv),
        cwd=cwd if cwd.startswith("/") else f"/work/{cwd}",
        env=env,
        stdin=(body.stdin or "").encode(),
        stdin_open=bool(body.stdin_open),
        timeout_ms=body.timeout_ms,
        tag=body.tag,
        wait=bool(body.wait),
    )


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
            raise _out_of_range(str(problem["loc"][0])) from e
        raise shape_error(e, _NAMES[model]) from e


_RANGES = {"idle_timeout_s": MAX_IDLE_S, "max_age_s": MAX_AGE_S, "timeout_ms": MAX_TIMEOUT_MS}


def _out_of_range(name: str) -> ApiError:
    return invalid(f"{name}: must be an integer from 1 to {_RANGES[name]}", param=name)


def _limits(given: dict[str, Any]) -> dict[str, int | float]:
    limits: dict[str, int | float] = {}
    for name, value in given.items():
        if name not in SESSION_LIMITS:
            raise unknown_field(("limits", name), _NAMES[SessionIn])
        if value is None:
            continue
        problem = limit_problem(name, value)
        if problem is not None:
            raise invalid(problem.message, param=f"limits.{name}", code=problem.code)
        limits[name] = value
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

"""Parse a run's request: its shape by Pydantic, then the rules of API.md, one error at a time.

No message repeats what was sent, but a number against its bound and the name of an unknown field.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import ApiError, invalid
from api.http.field_names import FieldNames
from api.http.validation import shape_error, shown_name, unknown_field
from api.runs import request_schema
from api.runs.field_names import SYNONYMS
from config.network_patterns import MAX_PATTERNS, PatternInvalid, parse_pattern
from protocol.function import Returns
from protocol.job import (
    DEFAULT_OUTPUTS,
    INPUTS,
    MAX_ARGS,
    MAX_CODE_BYTES,
    MAX_ENV,
    MAX_INLINE_FILES,
    MAX_METADATA,
    MAX_METADATA_BYTES,
    MAX_STDIN_BYTES,
    MAX_STRING_BYTES,
    JobFile,
    JobInput,
    outputs_problem,
    path_problem,
)
from protocol.limits import LIMIT_RULES, LimitRule, limit_problem
from protocol.network import NetworkAccess
from protocol.packages import MAX_PACKAGES

Isolation = Literal["default", "container", "gvisor"]

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


#: Of a name of the client's own.
MAX_EXTERNAL_ID = 128
EXTERNAL_ID = f"A name of your own that no other has; 1 to {MAX_EXTERNAL_ID} characters."
_EXTERNAL_ID = rf"^[^\x00-\x1f\x7f]{{1,{MAX_EXTERNAL_ID}}}$"
ExternalId = Annotated[str, Field(json_schema_extra={"pattern": _EXTERNAL_ID})]
PACKAGES = (
    "Packages to install before it starts, each a name with a version as the language's own tool writes it. "
    "Default: none."
)
Packages = Annotated[list[str], Field(max_length=MAX_PACKAGES, json_schema_extra=request_schema.packages)]


class FileIn(BaseModel):
    """A file of a request: inline `content`, or the `id` of an uploaded one."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=request_schema.file)

    path: str
    content: str | None = None
    encoding: Literal["utf-8", "base64"] | None = None
    id: str | None = None
    root: Literal["inputs", "work"] | None = None


class NetworkIn(BaseModel):
    """The hosts that a run may reach, as patterns."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=request_schema.network)

    allow: Annotated[list[str], Field(max_length=MAX_PATTERNS)] | None = None
    deny: Annotated[list[str], Field(max_length=MAX_PATTERNS)] | None = None


class RunIn(BaseModel):
    """The body of `POST /v1/runs`. Null is the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=request_schema.run)

    language: str
    code: str | None = None
    entrypoint: str | None = None
    files: Annotated[list[FileIn], Field(max_length=MAX_INLINE_FILES)] | None = None
    args: Annotated[list[str], Field(max_length=MAX_ARGS)] | None = None
    stdin: str | None = None
    stdin_open: bool | None = None
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None
    limits: dict[str, Any] | None = None
    stream: bool | None = None
    background: bool | None = None
    isolation: Isolation | None = None
    outputs: str | None = None
    network: NetworkIn | None = None
    packages: Packages | None = Field(None, description=PACKAGES)
    results: bool | None = None
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = None
    external_id: ExternalId | None = Field(None, description=EXTERNAL_ID)


FIELD_NAMES = FieldNames.of(RunIn, SYNONYMS, limits=tuple(LIMIT_RULES))


@dataclass(frozen=True, slots=True)
class InputIn:
    """A file given by its id: `index` among the request's files, `path` beneath /work."""

    index: int
    path: str
    id: str


@dataclass(frozen=True, slots=True)
class FunctionUse:
    """The function that a run calls or builds, as `api.functions` has resolved it."""

    name: str
    version: int
    #: The id that the run is to have; empty for a new one.
    run_id: str = ""
    #: The file with the handler; empty where there is none beside the entry file.
    handler: str = ""
    returns: Returns = ""
    #: The program that was built, if `executable`: then it is the request's entrypoint.
    inputs: tuple[JobInput, ...] = ()
    executable: bool = False


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A request that keeps every rule but the ones only the worker's languages decide."""

    language: str
    code: str | None
    entrypoint: str | None
    files: tuple[JobFile, ...]
    args: tuple[str, ...]
    stdin: str
    env: dict[str, str]
    limits: dict[str, int | float]
    isolation: Isolation
    metadata: dict[str, str]
    inputs: tuple[InputIn, ...] = ()
    stream: bool = False
    background: bool = False
    stdin_open: bool = False
    #: The directory of artifacts; empty for the default.
    outputs: str = ""
    #: The context of its session that it is a cell of; empty for the default one.
    context: str = ""
    external_id: str | None = None
    #: None for a run that asks for no host.
    network: NetworkAccess | None = None
    results: bool = False
    packages: tuple[str, ...] = ()
    function: FunctionUse | None = None
    #: Of dialects alone: see `Job`.
    compile_limits: dict[str, int | float] = field(default_factory=dict)
    ends_when_cut: bool = False


def parse_run(data: dict[str, Any], rules: Mapping[str, LimitRule] = LIMIT_RULES) -> RunRequest:
    """Return a run's request from its JSON. Raises ApiError 400 naming the first wrong field.

    `rules` are those of the limits; a run in a session has others.
    """
    try:
        body = RunIn.model_validate(data)
    except ValidationError as e:
        raise shape_error(e, FIELD_NAMES) from e
    _check_offered(body)
    files, inputs = _files(body.files or [])
    _check_program(body, files)
    args, env, metadata = body.args or [], body.env or {}, body.metadata or {}
    _check_args(args)
    _check_env(env)
    _check_metadata(metadata)
    check_external_id(body.external_id)
    if body.stdin is not None and _size(body.stdin) > MAX_STDIN_BYTES:
        raise _too_long("stdin", _size(body.stdin), MAX_STDIN_BYTES)
    return RunRequest(
        language=body.language,
        code=body.code,
        entrypoint=body.entrypoint,
        files=files,
        args=tuple(args),
        stdin=body.stdin or "",
        env=env,
        limits=_limits(body.limits or {}, rules),
        isolation=body.isolation or "default",
        metadata=metadata,
        inputs=inputs,
        stream=bool(body.stream),
        background=bool(body.background),
        stdin_open=bool(body.stdin_open),
        outputs=checked_outputs(body.outputs),
        external_id=body.external_id,
        network=None if body.network is None else _network(body.network),
        results=bool(body.results),
        packages=tuple(body.packages or ()),
    )


def checked_outputs(path: str | None) -> str:
    """Return the directory of artifacts, empty for the default. Raises ApiError 400."""
    if path is None or path == DEFAULT_OUTPUTS:
        return ""
    problem = outputs_problem(path)
    if problem is not None:
        raise invalid(f"outputs: {problem}", param="outputs", code="invalid_path")
    return path


def check_entry_file(request: RunRequest, entry_file: str) -> None:
    """Refuse an inline file where `code` will be written, or one beneath it. Raises ApiError 400."""
    if request.code is None:
        return
    for item in request.inputs:
        if item.path == entry_file or item.path.startswith(entry_file + "/"):
            raise _over_code(item.index, entry_file)
    by_id = {item.index for item in request.inputs}
    inline = (index for index in range(len(request.files) + len(by_id)) if index not in by_id)
    for index, file in zip(inline, request.files, strict=True):
        if file.path == entry_file or file.path.startswith(entry_file + "/"):
            raise _over_code(index, entry_file)


def _over_code(index: int, entry_file: str) -> ApiError:
    param = f"files.{index}.path"
    return invalid(f"{param}: {entry_file} is where code is written", param=param, code="duplicate_path")


def _check_offered(body: RunIn) -> None:
    """Refuse combinations of fields that are not supported, rather than ignore one of them."""
    if body.stream and body.background:
        raise invalid("stream: a run in the background is not streamed; follow its events", param="stream")


def _check_program(body: RunIn, files: tuple[JobFile, ...]) -> None:
    if body.code is None and body.entrypoint is None:
        raise invalid("code: give code or entrypoint", param="code", code="missing_field")
    if body.code is not None and body.entrypoint is not None:
        raise invalid("entrypoint: give code or entrypoint, not both", param="entrypoint")
    if body.code is not None:
        if not body.code:
            raise invalid("code: must not be empty", param="code")
        if _size(body.code) > MAX_CODE_BYTES:
            raise _too_long("code", _size(body.code), MAX_CODE_BYTES)
        return
    assert body.entrypoint is not None
    problem = path_problem(body.entrypoint)
    if problem:
        raise invalid(f"entrypoint: {problem}", param="entrypoint", code="invalid_path")
    if all(file.path != body.entrypoint for file in files):
        raise invalid("entrypoint: must be the path of one of the inline files", param="entrypoint")


def _files(given: list[FileIn]) -> tuple[tuple[JobFile, ...], tuple[InputIn, ...]]:
    """Separate inline files from files given by id, and check all their paths together."""
    files: list[JobFile] = []
    inputs: list[InputIn] = []
    paths: set[str] = set()
    folders: set[str] = set()
    for index, file in enumerate(given):
        where = f"files.{index}"
        _check_form(file.path, f"{where}.path")
        path = file.path if file.id is None or file.root == "work" else f"{INPUTS}/{file.path}"
        _check_path(path, f"{where}.path", paths, folders)
        paths.add(path)
        folders.update(_folders(path))
        if file.id is None:
            if file.root is not None:
                raise invalid(f"{where}.root: only of a file with an id", param=f"{where}.root")
            files.append(JobFile(path, _content(file, where)))
        else:
            _check_by_id_alone(file, where)
            inputs.append(InputIn(index, path, file.id))
    return tuple(files), tuple(inputs)


def _check_by_id_alone(file: FileIn, where: str) -> None:
    if file.content is not None or file.encoding is not None:
        raise invalid(f"{where}.id: a file has an id, or content and encoding, not both", param=f"{where}.id")


def _check_form(path: str, param: str) -> None:
    problem = path_problem(path)
    if problem:
        raise invalid(f"{param}: {problem}", param=param, code="invalid_path")


def _check_path(path: str, param: str, paths: set[str], folders: set[str]) -> None:
    _check_form(path, param)
    if path in paths:
        raise invalid(f"{param}: the same path is given twice", param=param, code="duplicate_path")
    if path in folders or not paths.isdisjoint(_folders(path)):
        raise invalid(f"{param}: is a file and a folder at once", param=param, code="duplicate_path")
    if path in ("inputs", "outputs"):
        raise invalid(f"{param}: is a folder of every run", param=param, code="invalid_path")


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _content(file: FileIn, where: str) -> bytes:
    if file.content is None:
        raise invalid(f"{where}.content: is required", param=f"{where}.content", code="missing_field")
    if file.encoding != "base64":
        return file.content.encode()
    try:
        return base64.b64decode(file.content, validate=True)
    except (binascii.Error, ValueError) as e:
        param = f"{where}.content"
        raise invalid(f"{param}: is not valid base64", param=param, code="invalid_base64") from e


def _check_args(args: list[str]) -> None:
    for index, arg in enumerate(args):
        _check_string(arg, f"args.{index}")


def _check_env(env: dict[str, str]) -> None:
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise invalid("env: a name must be a letter or _, then letters, digits or _", param="env")
        size = _size(name) + _size(value)
        where = f"env.{shown_name(name)}"
        if size > MAX_STRING_BYTES:
            raise _too_long(where, size, MAX_STRING_BYTES)
        _check_string(value, where)


def _check_string(value: str, param: str) -> None:
    if _size(value) > MAX_STRING_BYTES:
        raise _too_long(param, _size(value), MAX_STRING_BYTES)
    if "\0" in value:
        raise invalid(f"{param}: must not contain NUL", param=param)


def check_external_id(text: str | None) -> None:
    """Check a name of the client's own. Raises ApiError 400."""
    if text is not None and not re.fullmatch(_EXTERNAL_ID, text):
        problem = f"external_id: must be 1 to {MAX_EXTERNAL_ID} characters, no control characters"
        raise invalid(problem, param="external_id")


def _check_metadata(metadata: dict[str, str]) -> None:
    for name, value in metadata.items():
        size = _size(name) + _size(value)
        if size > MAX_METADATA_BYTES:
            raise _too_long(f"metadata.{shown_name(name)}", size, MAX_METADATA_BYTES)


def _network(given: NetworkIn) -> NetworkAccess | None:
    """Return the access that is asked for; None where no host is."""
    allow, deny = given.allow or [], given.deny or []
    for name, texts in (("allow", allow), ("deny", deny)):
        for index, text in enumerate(texts):
            try:
                parse_pattern(text, is_denied=name == "deny")
            except PatternInvalid as e:
                param = f"network.{name}.{index}"
                raise invalid(f"{param}: {e}", param=param) from e
    return NetworkAccess(tuple(allow), tuple(deny)) if allow else None


def _limits(given: dict[str, Any], rules: Mapping[str, LimitRule]) -> dict[str, int | float]:
    limits: dict[str, int | float] = {}
    for name, value in given.items():
        problem = limit_problem(name, 1 if value is None else value, rules)
        if problem is None:
            if value is not None:
                limits[name] = value
        elif problem.code == "unknown_field":
            raise unknown_field(("limits", name), FIELD_NAMES)
        elif value is not None:
            raise invalid(problem.message, param=f"limits.{name}", code=problem.code)
    return limits


def _too_long(param: str, size: int, bound: int) -> ApiError:
    return invalid(f"{param}: {size} bytes, the maximum is {bound}", param=param, code="too_long")


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())

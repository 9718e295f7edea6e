"""Parse a run's request: its shape by Pydantic, then the rules of API.md, one error at a time.

No message repeats what was sent, but a number against its bound and the name of an unknown field.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import ApiError, invalid
from api.http.field_names import FieldNames
from api.http.validation import shape_error, shown_name, unknown_field
from api.runs import request_schema
from api.runs.field_names import SYNONYMS
from protocol.job import (
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
    path_problem,
)
from protocol.limits import LIMIT_RULES, limit_problem

Isolation = Literal["default", "container", "gvisor"]

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class FileIn(BaseModel):
    """A file of a request: inline `content`, or the `id` of an uploaded one."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=request_schema.file)

    path: str
    content: str | None = None
    encoding: Literal["utf-8", "base64"] | None = None
    id: str | None = None


class RunIn(BaseModel):
    """The body of `POST /v1/runs`. Null is the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=request_schema.run)

    language: str
    code: str | None = None
    entrypoint: str | None = None
    files: Annotated[list[FileIn], Field(max_length=MAX_INLINE_FILES)] | None = None
    args: Annotated[list[str], Field(max_length=MAX_ARGS)] | None = None
    stdin: str | None = None
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None
    limits: dict[str, Any] | None = None
    stream: bool | None = None
    background: bool | None = None
    isolation: Isolation | None = None
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = None


FIELD_NAMES = FieldNames.of(RunIn, SYNONYMS, limits=tuple(LIMIT_RULES))


@dataclass(frozen=True, slots=True)
class InputIn:
    """A file given by its id: `index` among the request's files, `path` beneath /work."""

    index: int
    path: str
    id: str


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


def parse_run(data: dict[str, Any]) -> RunRequest:
    """Return a run's request from its JSON. Raises ApiError 400 naming the first wrong field."""
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
        limits=_limits(body.limits or {}),
        isolation=body.isolation or "default",
        metadata=metadata,
        inputs=inputs,
        stream=bool(body.stream),
        background=bool(body.background),
    )


def check_entry_file(request: RunRequest, entry_file: str) -> None:
    """Refuse an inline file where `code` will be written, or one beneath it. Raises ApiError 400."""
    if request.code is None:
        return
    by_id = {item.index for item in request.inputs}
    inline = (index for index in range(len(request.files) + len(by_id)) if index not in by_id)
    for index, file in zip(inline, request.files, strict=True):
        if file.path == entry_file or file.path.startswith(entry_file + "/"):
            raise invalid(
                f"files.{index}.path: {entry_file} is where code is written",
                param=f"files.{index}.path",
                code="duplicate_path",
            )


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
    """Inline files, and those given by id; the same rules hold over all of their paths."""
    files: list[JobFile] = []
    inputs: list[InputIn] = []
    paths: set[str] = set()
    folders: set[str] = set()
    for index, file in enumerate(given):
        where = f"files.{index}"
        _check_form(file.path, f"{where}.path")
        path = file.path if file.id is None else f"{INPUTS}/{file.path}"
        _check_path(path, f"{where}.path", paths, folders)
        paths.add(path)
        folders.update(_folders(path))
        if file.id is None:
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


def _check_metadata(metadata: dict[str, str]) -> None:
    for name, value in metadata.items():
        size = _size(name) + _size(value)
        if size > MAX_METADATA_BYTES:
            raise _too_long(f"metadata.{shown_name(name)}", size, MAX_METADATA_BYTES)


def _limits(given: dict[str, Any]) -> dict[str, int | float]:
    limits: dict[str, int | float] = {}
    for name, value in given.items():
        problem = limit_problem(name, value) if value is not None else limit_problem(name, 1)
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

"""Parse the bodies of calls about functions: the shape by Pydantic, then the rules, one error at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import ApiError, invalid
from api.functions.handlers import LANGUAGES, Source
from api.http.field_names import FieldNames
from api.http.validation import shape_error
from api.runs import request_schema
from api.runs.field_names import SYNONYMS
from api.runs.requests import FileIn, RunRequest, parse_run
from protocol.function import MAX_INPUT_BYTES, MAX_SCHEMA_BYTES, RESERVED
from protocol.job import MAX_BODY_BYTES, MAX_CODE_BYTES, MAX_ENV, MAX_INLINE_FILES, JobFile
from protocol.limits import LIMIT_RULES, MIB

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: A name, and the number of one of its versions.
REFERENCE = re.compile(rf"({NAME.pattern})(?:@([1-9][0-9]{{0,8}}))?")
MAX_DESCRIPTION_BYTES = 4096
#: Beside the files of a function its sandbox has a driver, the input, and the program that was built.
MAX_FILES = MAX_INLINE_FILES - 4
MAX_SOURCE_BYTES = MAX_BODY_BYTES - 2 * MIB


def _function_schema(schema: dict[str, Any]) -> None:
    """Add the rules that are checked by hand, in place."""
    request_schema.program(schema)
    fields = schema["properties"]
    fields["language"]["description"] = f"One of {', '.join(sorted(LANGUAGES))}, or an alias."
    fields["code"]["description"] = f"The file with the handler. At most {MAX_CODE_BYTES} bytes."
    fields["entrypoint"]["description"] = (
        "Instead of `code`: the path of the file with the handler, one of `files`."
    )
    fields["files"]["description"] = "Inline files, without an `id`; none at the path of the language's entry file."
    fields["background"]["description"] = "Return immediately with 202 and the function, which is being built."
    fields["packages"]["description"] = "As of a run: what its build and its calls have installed."
    fields["description"]["description"] = f"Any text of at most {MAX_DESCRIPTION_BYTES} bytes."
    fields["input_schema"]["description"] = (
        f"JSON Schema 2020-12 that inputs must match; at most {MAX_SCHEMA_BYTES} bytes, no outside references, "
        "patterns in RE2's syntax."
    )


def _call_schema(schema: dict[str, Any]) -> None:
    request_schema.answer(schema)
    fields = schema["properties"]
    fields["limits"]["description"] = "Absent or null limits are those of the function."
    fields["background"]["description"] = "Return immediately with 202 and the queued run."
    fields["input"]["description"] = f"Any JSON of at most {MAX_INPUT_BYTES} bytes. Default: null."


class FunctionIn(BaseModel):
    """The body of `PUT /v1/functions/{name}`: the next version of a function."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_function_schema)

    language: str
    code: str | None = None
    entrypoint: str | None = None
    files: Annotated[list[FileIn], Field(max_length=MAX_FILES)] | None = None
    packages: list[str] | None = None
    limits: dict[str, Any] | None = None
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    stream: bool | None = None
    background: bool | None = None


class CallIn(BaseModel):
    """The body of `POST /v1/functions/{name}/runs`."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_call_schema)

    input: Any = None
    limits: dict[str, Any] | None = None
    stream: bool | None = None
    background: bool | None = None


FIELD_NAMES = FieldNames.of(FunctionIn, SYNONYMS, limits=tuple(LIMIT_RULES))
CALL_NAMES = FieldNames.of(CallIn, SYNONYMS, limits=tuple(LIMIT_RULES))


@dataclass(frozen=True, slots=True)
class FunctionRequest:
    """A version that keeps every rule. `given` has code, files and entrypoint as they came."""

    source: Source
    given: dict[str, Any]
    limits: dict[str, int | float]
    env: dict[str, str]
    packages: tuple[str, ...]
    description: str | None
    input_schema: dict[str, Any] | None
    stream: bool
    background: bool


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call that keeps every rule but those of its function."""

    input: Any
    limits: dict[str, int | float]
    stream: bool
    background: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """A function that is named in a path, and one of its versions if that is given."""

    name: str
    version: int | None = None


def parse_name(text: str) -> str:
    """Return the name of a function. Raises ApiError 400."""
    if not NAME.fullmatch(text):
        raise invalid("name: must be 1 to 64 letters, digits, _ or -", param="name")
    return text


def parse_reference(text: str, version: str | None = None) -> Reference:
    """Return what `name` or `name@3` refers to; `version` is that of the query. Raises ApiError 400 or 404."""
    found = REFERENCE.fullmatch(text)
    if found is None:
        raise unknown_function()
    name, number = found.groups()
    if version is not None:
        if number is not None:
            raise invalid("version: is given twice", param="version")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
            raise invalid("version: must be a whole number from 1", param="version")
        number = version
    return Reference(name, None if number is None else int(number))


def unknown_function() -> ApiError:
    """Return the error for a function, or a version of one, that the caller does not have."""
    return ApiError(404, "There is no such function.", code="function_not_found", param="name")


def parse_function(data: dict[str, Any], language: str, entry_file: str) -> FunctionRequest:
    """Return a version from its JSON; `language` is the id of the one that it names. Raises ApiError 400."""
    body = _shape(FunctionIn, data, FIELD_NAMES)
    handlers = LANGUAGES.get(language)
    if handlers is None:
        message = f"language: {language} has no functions; supported: {', '.join(sorted(LANGUAGES))}"
        raise invalid(message, param="language", code="not_supported")
    if body.description is not None and len(body.description.encode()) > MAX_DESCRIPTION_BYTES:
        size = len(body.description.encode())
        message = f"description: {size} bytes, the maximum is {MAX_DESCRIPTION_BYTES}"
        raise invalid(message, param="description", code="too_long")
    run = _as_run(data)
    files = _files(run, body.files or [], handlers.file, entry_file if handlers.driver else "")
    if body.input_schema is not None:
        from api.functions.schema import InputSchema  # loaded where it is used: it takes memory, and 100 ms

        InputSchema(body.input_schema)
    given = {name: data.get(name) for name in ("code", "files", "entrypoint")}
    return FunctionRequest(
        source=Source(language, run.entrypoint or handlers.file, files),
        given=given,
        limits=run.limits,
        env=run.env,
        packages=run.packages,
        description=body.description,
        input_schema=body.input_schema,
        stream=run.stream,
        background=run.background,
    )


def parse_call(data: dict[str, Any]) -> CallRequest:
    """Return a call from its JSON. Raises ApiError 400."""
    body = _shape(CallIn, data, CALL_NAMES)
    size = len(orjson.dumps(body.input))
    if size > MAX_INPUT_BYTES:
        raise invalid(f"input: {size} bytes, the maximum is {MAX_INPUT_BYTES}", param="input", code="too_long")
    run = _as_run({"language": "python", "code": "-", **{name: data.get(name) for name in _OF_CALL}})
    return CallRequest(body.input, run.limits, run.stream, run.background)


#: The fields of a run that a function, and a call of one, has too.
_OF_FUNCTION = ("language", "code", "entrypoint", "files", "packages", "limits", "env", "stream", "background")
_OF_CALL = ("limits", "stream", "background")


def _as_run(data: dict[str, Any]) -> RunRequest:
    """Return those fields that a run has too, checked as a run's. Raises ApiError 400."""
    return parse_run({name: data.get(name) for name in _OF_FUNCTION if name in data})


def _shape(model: type[Any], data: dict[str, Any], names: FieldNames) -> Any:  # noqa: ANN401  # of that model
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise shape_error(e, names) from e


def _files(run: RunRequest, given: list[FileIn], handler: str, entry_file: str) -> tuple[JobFile, ...]:
    """Return all files of a function, code among them. Raises ApiError 400 naming the first wrong one."""
    for index, file in enumerate(given):
        where = f"files.{index}"
        if file.id is not None:
            message = f"{where}.id: the files of a function are inline, since uploads expire"
            raise invalid(message, param=f"{where}.id", code="not_supported")
        first = file.path.partition("/")[0]
        if first == RESERVED:
            message = f"{where}.path: {RESERVED} is the service's own folder"
            raise invalid(message, param=f"{where}.path", code="invalid_path")
        if entry_file and first == entry_file:
            message = f"{where}.path: {entry_file} is what calls the handler; name it otherwise, as {handler}"
            raise invalid(message, param=f"{where}.path", code="duplicate_path")
        if run.code is not None and first == handler:
            message = f"{where}.path: {handler} is where code is written"
            raise invalid(message, param=f"{where}.path", code="duplicate_path")
    files = run.files if run.code is None else (JobFile(handler, run.code.encode()), *run.files)
    size = sum(len(file.content) for file in files)
    if size > MAX_SOURCE_BYTES:
        raise invalid(
            f"files: {size} bytes in all, the maximum is {MAX_SOURCE_BYTES}", param="files", code="too_long"
        )
    return files

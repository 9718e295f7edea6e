"""Read tinirun's requests and translate them into runs, functions and calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.dialects.tinirun.languages import LANGUAGES, source_fields
from api.errors import invalid
from api.http.field_names import FieldNames
from api.http.validation import shape_error
from protocol.limits import LIMIT_RULES

if TYPE_CHECKING:
    from api.keys.plans import Plan

Language = Literal["bash", "go", "javascript", "python", "rust", "typescript"]
#: The folder of a program's files, beneath /work.
FOLDER = "files"
MAX_FILES = 50
#: Seconds, MiB and processors: the value that is meant where none is given, and the bounds.
TIMEOUT_S, MIN_TIMEOUT_S, MAX_TIMEOUT_S = 60, 5, 300
MEMORY_MB, MIN_MEMORY_MB, MAX_MEMORY_MB = 256, 1, 2_048
CPUS, MIN_CPUS, MAX_CPUS = 0.5, 0.1, 4.0
_FUNCTION_NAME = re.compile(r"[a-zA-Z_-]{1,50}")
#: Characters of packages of any ecosystem; more is checked where the language is known.
_DEPENDENCY = re.compile(r"[A-Za-z0-9@/._~^<>=!,*+\-\[\] ]{1,200}")

_STRICT = ConfigDict(strict=True)
_TIMEOUT = Field(TIMEOUT_S, description=f"Seconds, {MIN_TIMEOUT_S} to {MAX_TIMEOUT_S}.")
_MEMORY = Field(MEMORY_MB, description=f"MiB, {MIN_MEMORY_MB} to {MAX_MEMORY_MB}.")
_CPUS = Field(CPUS, description=f"Processors, {MIN_CPUS} to {MAX_CPUS}.")
_DEPENDENCIES = Field(None, description="Packages, as in `packages` of a run.")


class TinirunFile(BaseModel):
    """A file of a program."""

    model_config = _STRICT

    path: str = Field(description="Relative, without `.` and `..`; it appears beneath `./files/`.")
    content: str = Field(description="Base64.")


class RunCode(BaseModel):
    """The body of `POST /api/code/run`. Other fields are ignored."""

    model_config = _STRICT

    code: str
    lang: Language
    dependencies: list[str] | None = _DEPENDENCIES
    files: list[TinirunFile] | None = Field(None, max_length=MAX_FILES)
    timeout: int | None = _TIMEOUT
    mem_limit_mb: int | None = _MEMORY
    cpu_limit: float | None = _CPUS


class CreateFunction(BaseModel):
    """The body of `POST /api/function`. Other fields are ignored."""

    model_config = _STRICT

    name: str = Field(description="1 to 50 letters, `_` or `-`.")
    language: Language


class UpdateFunction(BaseModel):
    """The body of `POST /api/function/{name}`. Other fields are ignored."""

    model_config = _STRICT

    code: str
    description: str | None = None
    dependencies: list[str] | None = _DEPENDENCIES


class CallFunction(BaseModel):
    """The body of `POST /api/function/{name}/run` and of `…/run/stream`. Other fields are ignored."""

    model_config = _STRICT

    input: str
    timeout: int | None = _TIMEOUT
    mem_limit_mb: int | None = _MEMORY
    cpu_limit: float | None = _CPUS


_NAMES = {model: FieldNames.of(model) for model in (RunCode, CreateFunction, UpdateFunction, CallFunction)}
#: The client's names of the fields of `/v1`, where they differ.
LIMIT_NAMES = {"limits.timeout_ms": "timeout", "limits.memory_mb": "mem_limit_mb", "limits.cpus": "cpu_limit"}


def names_of_packages(dependencies: list[str] | None) -> dict[str, str]:
    """Return the client's names of a request's packages."""
    names = {"packages": "dependencies"}
    return names | {f"packages.{index}": f"dependencies.{index}" for index in range(len(dependencies or ()))}


def parse_run(data: dict[str, Any]) -> RunCode:
    """Return a program from its JSON. Raises ApiError 400."""
    asked: RunCode = _shape(RunCode, data)
    for index, file in enumerate(asked.files or ()):
        parts, param = file.path.split("/"), f"files.{index}.path"
        if not file.path or {"", ".", ".."} & set(parts):
            raise invalid(f"{param}: must be a relative path without . and ..", param=param, code="invalid_path")
        if file.path == "Dockerfile":
            raise invalid(f"{param}: Dockerfile is reserved; name it otherwise", param=param, code="invalid_path")
    _check_dependencies(asked.dependencies)
    return asked


def parse_create(data: dict[str, Any]) -> CreateFunction:
    """Return a new function from its JSON. Raises ApiError 400."""
    asked: CreateFunction = _shape(CreateFunction, data)
    if not _FUNCTION_NAME.fullmatch(asked.name):
        raise invalid("name: must be 1 to 50 letters, _ or -", param="name")
    return asked


def parse_update(data: dict[str, Any]) -> UpdateFunction:
    """Return a function's next version from its JSON. Raises ApiError 400."""
    asked: UpdateFunction = _shape(UpdateFunction, data)
    _check_dependencies(asked.dependencies)
    return asked


def parse_call(data: dict[str, Any]) -> CallFunction:
    """Return a call from its JSON. Raises ApiError 400."""
    asked: CallFunction = _shape(CallFunction, data)
    return asked


def run_fields(asked: RunCode, plan: Plan | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of `POST /v1/runs`, and the client's names of those it may have got wrong."""
    files = asked.files or []
    fields: dict[str, Any] = {
        "language": LANGUAGES[asked.lang].id,
        "code": asked.code,
        "files": [
            {"path": f"{FOLDER}/{file.path}", "content": file.content, "encoding": "base64"} for file in files
        ],
        "limits": limits_of(asked, plan),
    }
    if asked.dependencies:
        fields["packages"] = asked.dependencies
    return fields, {"language": "lang", **LIMIT_NAMES, **names_of_packages(asked.dependencies)}


def function_fields(
    language_id: str, code: str, description: str | None, dependencies: list[str] | None
) -> dict[str, Any]:
    """Return the fields of `PUT /v1/functions/{name}`."""
    fields: dict[str, Any] = {"language": language_id, "description": description or None, "stream": True}
    if dependencies:
        fields["packages"] = dependencies
    return fields | source_fields(language_id, code)


def limits_of(asked: RunCode | CallFunction, plan: Plan | None) -> dict[str, int | float]:
    """Return the limits of a request. Raises ApiError 400 for one that is out of tinirun's bounds or the plan's.

    Clients send the defaults unasked, so up to these a plan's lower maximum is used instead. Fewer processors make
    a program slower, and no other: there too the plan's maximum is used.
    """
    timeout = TIMEOUT_S if asked.timeout is None else asked.timeout
    memory = MEMORY_MB if asked.mem_limit_mb is None else asked.mem_limit_mb
    cpus = CPUS if asked.cpu_limit is None else asked.cpu_limit
    _check("timeout", timeout, MIN_TIMEOUT_S, MAX_TIMEOUT_S)
    _check("mem_limit_mb", memory, MIN_MEMORY_MB, MAX_MEMORY_MB)
    _check("cpu_limit", cpus, MIN_CPUS, MAX_CPUS)
    most_s, most_mb = int(_most("timeout_ms", plan)) // 1000, int(_most("memory_mb", plan))
    return {
        "timeout_ms": _within("timeout", timeout, TIMEOUT_S, max(most_s, 1), "seconds") * 1000,
        "memory_mb": max(
            _within("mem_limit_mb", memory, MEMORY_MB, most_mb, "MiB"), int(LIMIT_RULES["memory_mb"].minimum)
        ),
        "cpus": min(cpus, _most("cpus", plan)),
    }


def _most(name: str, plan: Plan | None) -> float:
    return LIMIT_RULES[name].ceiling if plan is None else plan.ceiling(name)


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        nearest = least if value < least else most
        raise invalid(f"{name}: must be from {least:g} to {most:g}; the nearest is {nearest:g}", param=name)


def _within(name: str, value: int, default: int, most: int, unit: str) -> int:
    if value <= most:
        return value
    if value <= default:
        return most
    raise invalid(
        f"{name}: {value} exceeds this key's maximum of {most} {unit}", param=name, code="limit_exceeds_maximum"
    )


def _check_dependencies(dependencies: list[str] | None) -> None:
    for index, text in enumerate(dependencies or ()):
        if not _DEPENDENCY.fullmatch(text):
            param = f"dependencies.{index}"
            raise invalid(f"{param}: has characters that no package has", param=param, code="invalid_package")


def _shape(model: type[Any], data: dict[str, Any]) -> Any:  # noqa: ANN401  # of that model
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise shape_error(e, _NAMES[model]) from e

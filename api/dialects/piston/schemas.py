"""Bodies of Piston's routes, for the specification: requests are checked by `translate`, with Piston's messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from api.openapi.decorator import Json
from protocol.job import MAX_INLINE_FILES

_MemoryLimit = Annotated[float, Field(ge=-1, description="Bytes; -1 and 0 are no limit of the request's own.")]
_TimeLimit = Annotated[float, Field(ge=0, description="Milliseconds; 0 is no limit of the request's own.")]


class PistonFile(BaseModel):
    """A file of a program."""

    name: str | None = None
    content: str
    encoding: Annotated[str | None, Field(description="`utf8`, `base64` or `hex`.")] = None


class PistonRequest(BaseModel):
    """A program to run. Fields that are not known are ignored."""

    language: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1, description="A version, or a selector such as `3.x` or `*`.")]
    files: Annotated[list[PistonFile], Field(min_length=1, max_length=MAX_INLINE_FILES)]
    stdin: str | None = None
    args: list[str] | None = None
    run_timeout: _TimeLimit | None = None
    compile_timeout: _TimeLimit | None = None
    run_cpu_time: _TimeLimit | None = None
    compile_cpu_time: _TimeLimit | None = None
    run_memory_limit: _MemoryLimit | None = None
    compile_memory_limit: _MemoryLimit | None = None


class PistonStage(BaseModel):
    """The end of a stage. `memory` is in bytes, the times are in milliseconds."""

    stdout: str
    stderr: str
    code: int | None
    signal: str | None
    output: str
    memory: int | None
    message: str | None
    status: Literal["TO", "OL", "EL", "RE", "SG", "XX"] | None
    cpu_time: int | None
    wall_time: int | None


class PistonResult(BaseModel):
    """An ended run. If it did not compile, `run` is the compile stage."""

    compile: PistonStage | None = None
    run: PistonStage
    language: str
    version: str


class PistonRuntime(BaseModel):
    """A language that is installed."""

    language: str
    version: str
    aliases: list[str]
    runtime: str | None = None


class PistonRuntimes(RootModel[list[PistonRuntime]]):
    """The languages that are installed."""


class PistonPackage(BaseModel):
    """A language of the service, and whether it is ready."""

    language: str
    language_version: str
    installed: bool


class PistonPackages(RootModel[list[PistonPackage]]):
    """The languages of the service, as packages."""


class PistonMessage(BaseModel):
    """An error, or a greeting."""

    message: str


_TEXTS = {
    400: "The request is wrong: `message` says what.",
    401: "There is no key, or it is wrong, and requests without one are not served.",
    403: "The plan of the key is no more.",
    408: "The body did not arrive in time.",
    413: "The body is too large, or the key's storage is used up.",
    415: "The body is compressed, or with `PISTON_STRICT=1` is not said to be JSON.",
    426: "The call is a WebSocket.",
    429: "The rate limit, quota or share is used up.",
    500: "The service failed.",
    503: "No worker, no place, or the language is not built yet.",
}


def errors(*statuses: int) -> dict[int, Any]:
    """Return the answers of those error statuses."""
    return {status: Json(_TEXTS[status], PistonMessage) for status in statuses}

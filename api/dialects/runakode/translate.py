"""Translate runakode's requests into runs, and ended runs and errors into its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from flask import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.dialects.field_names import rename_field
from api.dialects.flat_result import FlatResult
from api.errors import ApiError, invalid
from api.http.body import parse_object
from api.openapi.models import ResponseModel

if TYPE_CHECKING:
    from api.keys.plans import Plan
    from api.runs.requests import Isolation
    from config.settings import Settings

TEXT = "text/plain; charset=utf-8"
_NAMES = {"code": "source_code"}
_UNREADABLE = "Cant parse the request!"
#: The texts of runakode's own server. Every other error is a sentence of this service.
_TEXTS = {
    "invalid_json": _UNREADABLE,
    "incomplete_body": _UNREADABLE,
    "unknown_language": "Unsupported language!",
    "method_not_allowed": "Wrong method!",
}


class RunakodeRequest(BaseModel):
    """The body of `POST /api`. Other fields are ignored."""

    model_config = ConfigDict(strict=True, json_schema_extra={"required": ["language", "source_code"]})

    language: str | None = Field(default=None, description="A language's id or alias: `python`, `go`.")
    source_code: str | None = Field(default=None, description="The program; not empty.")


class RunakodeResult(ResponseModel):
    """An ended run; a compiler that failed counts as the program."""

    stdout: str
    stderr: str
    exit_code: int = Field(description="128 and the signal's number if the program was killed.")
    timeout: bool
    exec_time_ms: int = Field(ge=0, description="Wall-clock time of the program.")


def parse(body: bytes) -> RunakodeRequest:
    """Return the request that a body is. Raises ApiError 400."""
    try:
        asked = RunakodeRequest.model_validate(parse_object(body))
    except ValidationError as e:
        raise invalid("a field is not a string", code="invalid_json") from e
    if not asked.source_code:
        raise invalid("The source code is empty!", code="missing_field")
    return asked


def fields_of(
    asked: RunakodeRequest, isolation: Isolation, limits: dict[str, int | float] | None = None
) -> dict[str, Any]:
    """Return the fields of `POST /v1/runs` for a request."""
    fields = {"language": asked.language or "", "code": asked.source_code, "isolation": isolation}
    return {**fields, "limits": limits} if limits else fields


def limits_of(settings: Settings, plan: Plan | None) -> dict[str, int | float]:
    """Return the limits that the service's settings give to these runs, each the plan's maximum if that is lower.

    A client has no field for them and could not ask for less.
    """
    given: dict[str, int | float | None] = {
        "timeout_ms": settings.runakode_timeout_ms,
        "memory_mb": settings.runakode_memory_mb,
        "cpus": settings.runakode_cpus,
        "max_output_bytes": settings.runakode_output_bytes,
    }
    found = {name: value for name, value in given.items() if value is not None}
    return found if plan is None else {name: min(value, plan.ceiling(name)) for name, value in found.items()}


def result_of(document: dict[str, Any]) -> tuple[int, bytes]:
    """Return the status and the body for the document of an ended run."""
    flat = FlatResult.of(document)
    body = {
        "stdout": flat.stdout,
        "stderr": flat.stderr,
        "exit_code": flat.exit_code,
        "timeout": flat.timed_out,
        "exec_time_ms": flat.wall_ms,
    }
    return 504 if flat.timed_out else 200, orjson.dumps(body)


def render(e: ApiError) -> Response:
    """Return an error as runakode does: a line of text."""
    rename_field(e, _NAMES)
    text = _TEXTS.get(e.error.code, e.error.message)
    return Response(f"{text}\n", e.status, headers=e.headers, content_type=TEXT)

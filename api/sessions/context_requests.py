"""Parse the bodies of calls about contexts: the shape by Pydantic, then the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.http.field_names import FieldNames
from api.runs.requests import parse_run
from api.sessions.bodies import MAX_NAME, check_text, check_visible, env_schema, name_schema, parsed_body
from protocol.job import MAX_CODE_BYTES, MAX_ENV, MAX_PATH_BYTES


def _context_schema(schema: dict[str, Any]) -> None:
    """Add the rules that are checked by hand, in place."""
    name_schema(schema, "name", MAX_NAME)
    env_schema(schema)
    schema["properties"]["cwd"]["anyOf"][0] |= {"pattern": r"^[^\x00]*$"}


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


_NAMES = FieldNames.of(ContextIn)
_CURSOR_NAMES = FieldNames.of(CursorIn)


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """A context that is asked for; None is the default."""

    language: str | None
    cwd: str
    name: str | None
    env: dict[str, str]


def parse_context(data: dict[str, Any]) -> ContextRequest:
    """Return a context's request from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = parsed_body(ContextIn, data, _NAMES)
    cwd = body.cwd or "/work"
    check_text(cwd, "cwd", MAX_PATH_BYTES)
    check_visible(body.name, "name", MAX_NAME)
    env = parse_run({"language": "-", "code": "-", "env": data.get("env")}).env
    return ContextRequest(body.language, cwd if cwd.startswith("/") else f"/work/{cwd}", body.name, env)


def parse_cursor(data: dict[str, Any]) -> tuple[str, int]:
    """Return a cell that is being written, and where. Raises ApiError 400 naming the first wrong field."""
    body = parsed_body(CursorIn, data, _CURSOR_NAMES)
    check_text(body.code, "code", MAX_CODE_BYTES)
    return body.code, len(body.code) if body.cursor is None else min(body.cursor, len(body.code))

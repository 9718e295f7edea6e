"""Parse the bodies and paths of calls about files: the shape by Pydantic, then the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field

from api.errors import invalid
from api.http.field_names import FieldNames
from api.sessions.bodies import Model, parsed_body
from protocol.job import MAX_PATH_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    model: FieldNames.of(model) for model in (MkdirIn, WatcherIn, MoveIn, ChmodIn)
}


def parse_change(model: type[Model], data: dict[str, Any]) -> Model:
    """Return the body of a change of files. Raises ApiError 400 naming the first wrong field."""
    return parsed_body(model, data, _NAMES[model])


def parse_mode(text: str | None) -> bytes:
    """Return permission bits as octal digits; nothing where none are given. Raises ApiError 400."""
    if text is None:
        return b""
    if not (3 <= len(text) <= 4 and set(text) <= set("01234567")):
        raise invalid("mode: must be octal digits such as 644", param="mode")
    return text.encode()


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

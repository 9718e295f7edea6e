"""Parse bodies and queries of calls about sessions: the parts that several kinds of calls share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from api.errors import ApiError, invalid
from api.http.validation import shape_error
from protocol.job import MAX_CODE_BYTES
from protocol.session import MAX_TERMINAL_CELLS, TIMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.datastructures import MultiDict

    from api.http.field_names import FieldNames

Model = TypeVar("Model", bound=BaseModel)

#: Of the name of a session or a context.
MAX_NAME = 128
#: Of a process.
MAX_TIMEOUT_MS = 86_400_000
_CELLS = (1, MAX_TERMINAL_CELLS)
#: The bounds of each integer, for its message.
_RANGES = {
    **TIMES,
    "timeout_ms": (1, MAX_TIMEOUT_MS),
    "cursor": (0, MAX_CODE_BYTES),
    "cols": _CELLS,
    "rows": _CELLS,
}


def parsed_body(model: type[Model], data: dict[str, Any], names: FieldNames) -> Model:
    """Return a body by its model, whose fields have those names. Raises ApiError 400 for the first wrong field."""
    try:
        return model.model_validate(data)
    except ValidationError as e:
        problem = e.errors(include_url=False, include_input=False)[0]
        if problem["type"] in ("greater_than_equal", "less_than_equal"):
            raise _out_of_range(".".join(map(str, problem["loc"]))) from e
        raise shape_error(e, names) from e


def _out_of_range(name: str) -> ApiError:
    least, most = _RANGES[name.rpartition(".")[2]]
    return invalid(f"{name}: must be an integer from {least} to {most}", param=name)


def check_visible(text: str | None, name: str, most: int) -> None:
    """Check that a text is `most` visible ASCII characters at most, if it is given. Raises ApiError 400."""
    if text is not None and not (0 < len(text) <= most and all("!" <= letter <= "~" for letter in text)):
        raise invalid(f"{name}: must be 1 to {most} visible ASCII characters", param=name)


def check_text(text: str, name: str, most: int) -> None:
    """Check that a text has no NUL and at most `most` bytes. Raises ApiError 400."""
    if "\0" in text:
        raise invalid(f"{name}: must not contain NUL", param=name)
    size = len(text.encode())
    if size > most:
        raise invalid(f"{name}: {size} bytes, the maximum is {most}", param=name, code="too_long")


def name_schema(schema: dict[str, Any], name: str, most: int) -> None:
    """Add the rule of `check_visible` to a field, in place."""
    schema["properties"][name]["anyOf"][0] |= {"pattern": f"^[!-~]{{1,{most}}}$"}


def env_schema(schema: dict[str, Any]) -> None:
    """Add the rules of environment variables to the field `env`, in place."""
    variables = schema["properties"]["env"]["anyOf"][0]
    variables["propertyNames"] = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
    variables["additionalProperties"] = {"type": "string", "pattern": r"^[^\x00]*$"}


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

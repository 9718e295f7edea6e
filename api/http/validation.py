"""Errors of a body's shape: the first problem that Pydantic found, as a sentence of this API.

No message repeats a value that was sent; a name is repeated only where it is harmless.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

from pydantic import ValidationError

from api.errors import ApiError, invalid

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from api.http.field_names import FieldNames

Location = tuple[int | str, ...]

_SHOWN_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
#: Characters of a quoted name that are not escaped, and how many characters of the name are shown.
_HARMLESS = frozenset(string.ascii_letters + string.digits + "_.- ")
MAX_QUOTED = 32
#: So many of a body's problems are compared with a missing field.
MAX_COMPARED_FIELDS = 32
_SENTENCES = {
    "missing": ("is required", "missing_field"),
    "string_type": ("must be a string", "invalid_type"),
    "int_type": ("must be an integer", "invalid_type"),
    "bool_type": ("must be true or false", "invalid_type"),
    "list_type": ("must be a list", "invalid_type"),
    "dict_type": ("must be an object", "invalid_type"),
    "model_type": ("must be an object", "invalid_type"),
    "model_attributes_type": ("must be an object", "invalid_type"),
    "string_unicode": ("must be valid Unicode", "invalid_value"),
}


def shape_error(e: ValidationError, names: FieldNames) -> ApiError:
    """Return the error for the first problem that Pydantic found: one sentence that names the field.

    `names` are the fields of the body's model.
    """
    problems = e.errors(include_url=False, include_input=False)
    problem = problems[0]
    kind, loc, context = problem["type"], problem["loc"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_field(loc, names)
    param = _dotted(loc)
    if kind == "too_long":
        bound, actual = context["max_length"], context["actual_length"]
        many = "more" if actual is None else str(actual)
        return invalid(f"{param}: {many} entries, the maximum is {bound}", param=param, code="too_many")
    if kind == "literal_error":
        return invalid(f"{param}: must be one of {context['expected']}", param=param)
    sentence, code = _SENTENCES.get(kind, ("is not valid", "invalid_value"))
    if kind == "missing" and (other := _given_instead(loc, problems, names)) is not None:
        sentence += f"; {other} is an unknown field: did you mean {param}?"
    return invalid(f"{param}: {sentence}", param=param, code=code)


def _given_instead(loc: Location, problems: list[ErrorDetails], names: FieldNames) -> str | None:
    """Return the name of an unknown field that probably stands for the missing one at `loc`, for a message."""
    *place, missing = loc
    wanted = ".".join(map(str, [*place, missing]))
    for problem in problems[1 : 1 + MAX_COMPARED_FIELDS]:
        *there, name = problem["loc"]
        if problem["type"] == "extra_forbidden" and there == place and names.nearest(place, str(name)) == wanted:
            return quoted_name(str(name))
    return None


def unknown_field(loc: Location, names: FieldNames) -> ApiError:
    """Return the error for a field that is not in the schema: the nearest field, and all that are there.

    `loc` is the path of the field. Its name is the client's: the message shows it quoted and cut where it is not
    harmless, and `param` has `?` then.
    """
    *place, last = loc
    name = str(last)
    shown = ".".join([*(shown_name(str(part)) for part in place), quoted_name(name)])
    near = names.nearest(place, name)
    mean = f"; did you mean {near}?" if near is not None else ";"
    message = f"{shown}: unknown field{mean} supported: {', '.join(names.allowed(place))}"
    return invalid(message, param=_dotted(loc), code="unknown_field")


def _dotted(loc: Location) -> str:
    return ".".join(shown_name(str(part)) for part in loc)


def shown_name(name: str) -> str:
    """Return a name that the client chose, or `?` where it cannot be repeated in a message."""
    return name if _SHOWN_NAME.fullmatch(name) else "?"


def quoted_name(name: str) -> str:
    """Return a name that the client chose for a message: as it is, or quoted, escaped and cut."""
    if _SHOWN_NAME.fullmatch(name):
        return name
    escaped = "".join(c if c in _HARMLESS else f"\\u{{{ord(c):x}}}" for c in name[:MAX_QUOTED])
    return f'"{escaped}{"…" if len(name) > MAX_QUOTED else ""}"'

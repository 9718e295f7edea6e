"""Errors of a body's shape: the first problem that Pydantic found, as a sentence of this API.

No message repeats a value that was sent; a name is repeated only where it is harmless.
"""

from __future__ import annotations

import re

from pydantic import ValidationError

from api.errors import ApiError, invalid

_SHOWN_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_SENTENCES = {
    "missing": ("is required", "missing_field"),
    "string_type": ("must be a string", "invalid_type"),
    "bool_type": ("must be true or false", "invalid_type"),
    "list_type": ("must be a list", "invalid_type"),
    "dict_type": ("must be an object", "invalid_type"),
    "model_type": ("must be an object", "invalid_type"),
    "model_attributes_type": ("must be an object", "invalid_type"),
    "string_unicode": ("must be valid Unicode", "invalid_value"),
}


def shape_error(e: ValidationError) -> ApiError:
    """Return the error for the first problem that Pydantic found: one sentence that names the field."""
    problem = e.errors(include_url=False, include_input=False)[0]
    kind, loc, context = problem["type"], problem["loc"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_field(loc)
    param = _dotted(loc)
    if kind == "too_long":
        bound, actual = context["max_length"], context["actual_length"]
        many = "more" if actual is None else str(actual)
        return invalid(f"{param}: {many} entries, the maximum is {bound}", param=param, code="too_many")
    if kind == "literal_error":
        return invalid(f"{param}: must be one of {context['expected']}", param=param)
    sentence, code = _SENTENCES.get(kind, ("is not valid", "invalid_value"))
    return invalid(f"{param}: {sentence}", param=param, code=code)


def unknown_field(loc: tuple[int | str, ...]) -> ApiError:
    """Return the error for a field that is not in the schema; `loc` is its path."""
    param = _dotted(loc)
    return invalid(f"{param}: unknown field", param=param, code="unknown_field")


def _dotted(loc: tuple[int | str, ...]) -> str:
    return ".".join(shown_name(str(part)) for part in loc)


def shown_name(name: str) -> str:
    """Return a name that the client chose, or `?` where it cannot be repeated in a message."""
    return name if _SHOWN_NAME.fullmatch(name) else "?"

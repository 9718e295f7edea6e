"""Describe the values that a setting may have, as its field in the table defines them."""

from __future__ import annotations

import math
from typing import Any, get_args

from pydantic.fields import FieldInfo

#: Numbers from here on are in no setting's bounds; text of them could be of any length.
LARGEST = 2**63


def allowed_values(field: FieldInfo) -> str:
    """Return the choices or the bounds of a setting as Markdown, or nothing."""
    if field.annotation is bool:
        return "`0`, `1`"
    if found := choices(field):
        return ", ".join(f"`{choice}`" for choice in found)
    return ", ".join(_bounds_of(field))


def kinds(field: FieldInfo) -> tuple[Any, ...]:
    """Return the types of a setting's value, without None."""
    alternatives = get_args(field.annotation) or (field.annotation,)
    if any(isinstance(one, str) for one in alternatives):  # the arguments of a Literal
        return (str,)
    return tuple(str if _literals(one) else one for one in alternatives if one is not type(None))


def choices(field: FieldInfo) -> list[str]:
    """Return the allowed words of a choice; none if other values are valid."""
    alternatives = [field.annotation, *get_args(field.annotation)]  # of one that may be left unset
    return [word for one in alternatives for word in _literals(one)]


def expected(field: FieldInfo, *, is_list: bool) -> str:
    """Describe the value that a settings file may give, such as `an integer (≥ 1, ≤ 64)`."""
    if found := choices(field):
        return "one of " + ", ".join(f'"{choice}"' for choice in found)
    found_kinds = kinds(field)
    if bool in found_kinds:
        return "true or false"
    noun = "an integer" if int in found_kinds else "a number" if float in found_kinds else "text in quotes"
    if is_list:
        noun += ", or a list of such"
    bounds = _bounds_of(field)
    return f"{noun} ({', '.join(bounds)})" if bounds else noun


def problem_of_number(field: FieldInfo, value: float) -> str | None:
    """Return a number that is out of the setting's bounds as a short text; None if it fits."""
    bounds = {kind: bound for entry in field.metadata for kind, bound in _bounds(entry)}
    if isinstance(value, int) and abs(value) >= LARGEST:
        return "a number of that size"
    fits = (
        not math.isnan(value)
        and ("ge" not in bounds or value >= bounds["ge"])
        and ("gt" not in bounds or value > bounds["gt"])
        and ("le" not in bounds or value <= bounds["le"])
    )
    return None if fits else str(value)


def bounds_of(field: FieldInfo) -> tuple[float, float]:
    """Return the least and the greatest value of a number that has both bounds."""
    bounds = {kind: bound for entry in field.metadata for kind, bound in _bounds(entry)}
    return bounds["ge"], bounds["le"]


def _literals(kind: object) -> list[str]:
    return [word for word in get_args(kind) if isinstance(word, str)]


def _bounds_of(field: FieldInfo) -> list[str]:
    bounds = {kind: value for entry in field.metadata for kind, value in _bounds(entry)}
    return [f"{sign} {bounds[kind]}" for kind, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤")) if kind in bounds]


def _bounds(entry: object) -> list[tuple[str, Any]]:
    return [(kind, getattr(entry, kind)) for kind in ("ge", "gt", "le") if getattr(entry, kind, None) is not None]

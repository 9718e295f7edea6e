"""Input schemas of functions: JSON Schema 2020-12 without references to elsewhere, within bounds of size and time.

A schema and what it is checked against are both a client's. So patterns are matched by RE2, in linear time; equal
items are found by hashing, not by comparing each with each; and every keyword that is evaluated looks at the clock,
because a schema of a few lines can take a time that doubles with each of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import re2
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from api.errors import ApiError, invalid
from api.http.validation import shown_name
from protocol.function import MAX_SCHEMA_BYTES

PARAM = "input_schema"
MAX_SCHEMA_DEPTH = 32
#: Seconds that checking one input may take.
CHECK_S = 0.5
#: A longer string matches no pattern: a search takes the length of both, multiplied.
MAX_MATCHED = 16 * 1024
#: Characters of a schema's value that a message shows.
SHOWN = 80
DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Keywords whose values are data, in which nothing is a reference.
_DATA = frozenset({"const", "enum", "default", "examples"})
#: Evaluated by walking through the schema a second time, without a look at the clock; or resolved while they are
#: evaluated.
_UNSUPPORTED = frozenset(
    {
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "$dynamicAnchor",
        "$recursiveRef",
        "$id",
        "$vocabulary",
    }
)
_QUIET = re2.Options()
_QUIET.log_errors = False
_QUIET.max_mem = 1 << 17
#: Keywords that hold other schemas by a name that may be any text.
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_clock = threading.local()

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class TooSlow(Exception):
    """Checking an input takes longer than CHECK_S."""


@dataclass(frozen=True, slots=True)
class InputProblem:
    """The first place where an input does not match: its dotted path below `input`, and a sentence."""

    param: str
    message: str


class InputSchema:
    """A schema that was checked."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Check the schema. Raises ApiError 400 naming the problem."""
        _check_bounds(schema)
        try:
            _Validator.check_schema(schema)
        except SchemaError as e:
            raise _refused(f"is no JSON Schema: {_dotted(e.path) or PARAM} {_sentence(e)}") from e
        except RecursionError as e:
            raise _refused("is nested too deep") from e
        registry: Registry[Any] = Registry().with_resource("", DRAFT202012.create_resource(schema))
        resolver = registry.resolver()
        for reference in _references(schema):
            try:
                resolver.lookup(reference)
            except (Unresolvable, ValueError, KeyError) as e:
                raise _refused("has a $ref to nothing in it") from e
        self._validator = _Validator(schema, registry=registry)

    def problem(self, value: object) -> InputProblem | None:
        """Return the first problem of an input; None if it matches. Raises ApiError 400 if that takes too long."""
        _clock.until = time.monotonic() + CHECK_S
        try:
            error = next(self._validator.iter_errors(value), None)
        except TooSlow as e:
            message = f"input: checking it against the function's input_schema takes more than {CHECK_S:g} s"
            raise invalid(message, param="input", code="invalid_input") from e
        except (RecursionError, ArithmeticError, ValueError) as e:
            message = "input: is nested too deep, or has numbers too large, for the function's input_schema"
            raise invalid(message, param="input", code="invalid_input") from e
        if error is None:
            return None
        path = ["input", *error.absolute_path]
        if error.validator == "required":
            path.append(next((name for name in error.validator_value if name not in error.instance), "?"))
        return InputProblem(_dotted(path), _sentence(error))


def _check_bounds(schema: dict[str, Any]) -> None:
    size = len(orjson.dumps(schema))
    if size > MAX_SCHEMA_BYTES:
        message = f"{PARAM}: {size} bytes, the maximum is {MAX_SCHEMA_BYTES}"
        raise invalid(message, param=PARAM, code="too_long")
    if schema.get("$schema", DIALECT) != DIALECT:
        raise _refused(f"$schema must be {DIALECT}, or left out")
    for keyword, value in _keywords(schema):
        if keyword in _UNSUPPORTED:
            raise _refused(f"{keyword} is not supported")
        if keyword == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise _refused("a $ref must begin with #: it can name a part of this schema alone")
        if keyword == "pattern" and isinstance(value, str):
            _check_pattern(value)
        if keyword == "patternProperties" and isinstance(value, dict):
            for pattern in value:
                _check_pattern(pattern)


def _check_pattern(pattern: str) -> None:
    try:
        _compiled(pattern)
    except re2.error as e:
        raise _refused("a pattern is not of RE2's syntax (no look-around, no back-references), or too large") from e


def _compiled(pattern: str) -> Any:
    return re2.compile(pattern, _QUIET)


def _keywords(schema: object, depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield every keyword of a schema and of the schemas in it, with its value. Raises ApiError for the depth."""
    if depth > MAX_SCHEMA_DEPTH:
        raise _refused(f"is nested deeper than {MAX_SCHEMA_DEPTH}")
    if isinstance(schema, list):
        for item in schema:
            yield from _keywords(item, depth + 1)
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        yield keyword, value
        if keyword in _DATA:
            continue
        if keyword in _BY_NAME and isinstance(value, dict):
            for inner in value.values():
                yield from _keywords(inner, depth + 1)
        else:
            yield from _keywords(value, depth + 1)


def _references(schema: dict[str, Any]) -> Iterator[str]:
    return (value for keyword, value in _keywords(schema) if keyword == "$ref")


# -- keywords --------------------------------------------------------------------------------------


def _pattern(validator: Any, pattern: str, instance: object, schema: object) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    if len(instance) > MAX_MATCHED or _compiled(pattern).search(instance) is None:
        yield ValidationError("does not match")


def _pattern_properties(
    validator: Any,
    patterns: dict[str, Any],
    instance: object,
    schema: object,
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, inner in patterns.items():
        compiled = _compiled(pattern)
        for name, value in instance.items():
            if compiled.search(name) is not None:
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any,
    inner: object,
    instance: object,
    schema: dict[str, Any],
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known = schema.get("properties", {})
    patterns = [_compiled(pattern) for pattern in schema.get("patternProperties", ())]
    for name, value in instance.items():
        if name in known or any(pattern.search(name) is not None for pattern in patterns):
            continue
        if inner is False:
            yield ValidationError("has a property that is not known")
            return
        yield from validator.descend(value, inner, path=name)


def _unique_items(validator: Any, wanted: bool, instance: object, schema: object) -> Iterator[ValidationError]:
    if wanted and isinstance(instance, list):
        seen = set()
        for item in instance:
            digest = hash_of(item)
            if digest in seen:
                yield ValidationError("has equal items")
                return
            seen.add(digest)
            _look_at_the_clock()


def hash_of(value: object) -> bytes:
    """Return the same bytes for values that are equal as JSON: 1 and 1.0 are, 1 and true are not."""
    return orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS)


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _look_at_the_clock() -> None:
    if time.monotonic() > getattr(_clock, "until", float("inf")):
        raise TooSlow


def _timed(
    keyword: Keyword, validator: Any, value: Any, instance: Any, schema: Any
) -> Iterator[ValidationError] | None:
    """Evaluate a keyword, unless the time is over."""
    _look_at_the_clock()
    return keyword(validator, value, instance, schema)


_OWN: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_KEYWORDS = dict(Draft202012Validator.VALIDATORS) | _OWN
#: The function has no types.
_extend: Callable[..., Any] = validators.extend
_Validator = _extend(
    Draft202012Validator,
    validators={name: partial(_timed, keyword) for name, keyword in _KEYWORDS.items() if name not in _UNSUPPORTED},
)


# -- messages --------------------------------------------------------------------------------------


def _sentence(error: ValidationError | SchemaError) -> str:
    """Return the problem at a place. It shows the schema's own value, never what was sent."""
    if error.validator == "required":
        return "is required"
    if error.validator == "type":
        kinds = error.validator_value
        return f"must be of type {' or '.join(kinds) if isinstance(kinds, list) else kinds}"
    wanted = orjson.dumps(error.validator_value).decode()
    shown = wanted if len(wanted) <= SHOWN else f"{wanted[:SHOWN]}…"
    return f"does not match {error.validator}: {shown}"


def _dotted(path: Any) -> str:
    return ".".join(shown_name(str(part)) for part in path)


def _refused(problem: str) -> ApiError:
    return invalid(f"{PARAM}: {problem}", param=PARAM)

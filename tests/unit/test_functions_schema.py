"""Input schemas: checked with the path of the problem, without references to elsewhere, within a time."""

from __future__ import annotations

import time

import pytest

from api.errors import ApiError
from api.functions.schema import CHECK_S, MAX_MATCHED, InputSchema, hash_of

NUMBERS = {
    "type": "object",
    "required": ["items"],
    "additionalProperties": False,
    "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/n"}}, "name": {"pattern": "^a+$"}},
    "$defs": {"n": {"type": "integer", "minimum": 1}},
}
#: A schema of a few lines that takes 2⁴⁰ steps.
DOUBLED = {
    "$ref": "#/$defs/l0",
    "$defs": {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(40)} | {"l40": {}},
}


def outcome(schema, value):
    """The field that is named, by a problem or an error; None if the input matches."""
    try:
        problem = schema.problem(value)
    except ApiError as e:
        return e.error.param if e.error.code == "invalid_input" else "another error"
    return None if problem is None else problem.param


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"items": [1, 2]}, None),
        ({"items": [], "name": "aaa"}, None),
        (1, "input"),
        ({}, "input.items"),
        ({"items": 3}, "input.items"),
        ({"items": ["x"]}, "input.items.0"),
        ({"items": [1, 0]}, "input.items.1"),
        ({"items": [], "name": "b"}, "input.name"),
        ({"items": [], "secret": 1}, "input"),
    ],
)
def test_the_first_problem_is_named_by_its_path(value, param):
    problem = InputSchema(NUMBERS).problem(value)
    assert (None if problem is None else problem.param) == param


def test_no_message_repeats_the_input():
    schema = InputSchema({"properties": {"a": {"enum": ["x"]}, "b": {"const": 1}, "c": {"maxLength": 2}}})
    for name in "abc":
        assert "secret" not in schema.problem({name: "secret"}).message


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.org/schema"},
        {"$ref": "file:///etc/passwd"},
        {"items": {"$ref": "other.json#/x"}},
        {"$ref": "#/$defs/none"},
        {"$id": "https://example.org/", "$ref": "#"},
        {"$dynamicRef": "#x"},
        {"$schema": "http://json-schema.org/draft-04/schema#"},
        {"unevaluatedProperties": False},
        {"type": "strin"},
        {"minimum": "1"},
        {"properties": {"a": 1}},
        {"pattern": "(?=x)"},
        {"pattern": r"(a)\1"},
        {"patternProperties": {"(": {}}},
        {"pattern": "((a{900}){900}){900}"},
        {"enum": ["x" * 70_000]},
    ],
)
def test_what_is_no_schema_of_its_own_is_refused(schema):
    with pytest.raises(ApiError) as e:
        InputSchema(schema)
    assert (e.value.status, e.value.error.param) == (400, "input_schema")


def test_a_schema_that_is_nested_too_deep_is_refused():
    schema = {}
    for _ in range(100):
        schema = {"items": schema}
    with pytest.raises(ApiError, match="deeper"):
        InputSchema(schema)


def test_names_and_data_are_no_references():
    schema = InputSchema({"properties": {"$ref": {"type": "string"}}, "default": {"$ref": "https://example.org"}})
    assert schema.problem({"$ref": "x"}) is None
    assert schema.problem({"$ref": 1}).param == "input.?"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * MAX_MATCHED),
        ({"pattern": "(x+x+)+y"}, "x" * MAX_MATCHED),
        ({"pattern": "(.?){400}z"}, "x" * MAX_MATCHED),
        ({"uniqueItems": True}, [[n, {}] for n in range(200_000)]),
        (DOUBLED, 1),
    ],
)
def test_a_check_ends_in_time(schema, value):
    checked = InputSchema(schema)
    began = time.monotonic()
    assert outcome(checked, value) in ("input", None)
    assert time.monotonic() - began < CHECK_S + 1


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"items": {"$ref": "#"}}])
def test_a_schema_without_an_end_is_a_problem_of_the_input(schema):
    value = 1
    for _ in range(900):
        value = [value]
    assert outcome(InputSchema(schema), value) in ("input", None)


def test_equal_items_are_those_of_json():
    unique = InputSchema({"uniqueItems": True})
    assert unique.problem([1, True, "1", [1], {"a": 1}]) is None
    for items in ([1, 1.0], [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], [[0], [0.0]]):
        assert unique.problem(items).param == "input"
    assert hash_of([1.5]) != hash_of([1])

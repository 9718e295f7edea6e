"""Hostile bodies: strict JSON, bounded size, and never anything but an ApiError."""

from __future__ import annotations

import io
import json

import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.http import body as body_module
from api.http.body import ARRIVAL_KEY, drain, parse_object, read_body, read_json_body
from protocol.job import MAX_BODY_BYTES


def request_of(data=b"{}", **environ):
    given_environ = {
        "REQUEST_METHOD": "POST",
        "wsgi.input": io.BytesIO(data),
        "CONTENT_LENGTH": str(len(data)),
        "CONTENT_TYPE": "application/json",
    }
    given_environ |= environ
    return Request({name: value for name, value in given_environ.items() if value is not None})


MALFORMED = {
    "empty": b"",
    "spaces": b"  ",
    "not JSON": b"language=python",
    "cut": b'{"language":"py',
    "trailing comma": b'{"a":1,}',
    "trailing garbage": b"{} x",
    "two documents": b"{}{}",
    "single quotes": b"{'a':1}",
    "comment": b"{}//",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "minus Infinity": b'{"a":-Infinity}',
    "out of range": b'{"a":1e999}',
    "digits without end": b'{"a":' + b"9" * 100_000 + b"}",
    "lone high surrogate": rb'{"a":"\ud800"}',
    "lone low surrogate": rb'{"a":"\udc00"}',
    "swapped surrogates": rb'{"a":"\udc00\ud800"}',
    "surrogate in a name": rb'{"\ud800":1}',
    "invalid UTF-8": b'{"a":"\xff"}',
    "encoded surrogate": b'{"a":"\xed\xa0\x80"}',
    "overlong": b'{"a":"\xc0\xaf"}',
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "raw control": b'{"a":"\x00"}',
    "deep lists": b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "deep objects": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "very deep and open": b"[" * 900_000,
    "list": b"[]",
    "string": b'"{}"',
    "number": b"1",
    "null": b"null",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(data):
    with pytest.raises(ApiError) as caught:
        parse_object(data)
    assert caught.value.status == 400
    assert caught.value.error.code == "invalid_json"


def test_deep_is_said():
    with pytest.raises(ApiError, match="too deep"):
        parse_object(MALFORMED["deep lists"])


def test_the_last_of_a_name_given_twice_counts():
    assert parse_object(b'{"a":1,"a":2}') == {"a": 2}


def test_surrogate_pairs_and_nul_escapes_are_text():
    assert parse_object(rb'{"a":"\ud83d\ude00\u0000"}') == {"a": "\U0001f600\0"}


@given(st.binary(max_size=200))
def test_any_bytes(data):
    try:
        outcome: object = parse_object(data)
    except ApiError as e:
        outcome = e.status
    assert outcome == 400 or isinstance(outcome, dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_what_json_writes_is_read_back(value):
    try:
        data = json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return
    assert parse_object(data) == value


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json", None, ""],
)
def test_types_taken(content_type):
    assert read_json_body(request_of(CONTENT_TYPE=content_type)) == b"{}"


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "text/json", "json"],
)
def test_types_refused(content_type):
    with pytest.raises(ApiError, match="Content-Type: application/json") as caught:
        read_json_body(request_of(CONTENT_TYPE=content_type))
    assert caught.value.status == 415


def test_compressed_bodies_are_refused():
    with pytest.raises(ApiError) as caught:
        read_json_body(request_of(HTTP_CONTENT_ENCODING="gzip"))
    assert (caught.value.status, caught.value.error.param) == (415, "Content-Encoding")
    assert read_json_body(request_of(HTTP_CONTENT_ENCODING="Identity")) == b"{}"


def test_the_largest_body_is_read_and_one_byte_more_is_not():
    assert len(read_body(request_of(b"x" * MAX_BODY_BYTES))) == MAX_BODY_BYTES
    request = request_of(b"x" * (MAX_BODY_BYTES + 1))
    with pytest.raises(ApiError) as caught:
        read_body(request)
    assert caught.value.status == 413
    assert request.environ["wsgi.input"].read() == b"", "the rest is drained"


def test_a_chunked_body_is_bounded_too():
    chunked = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert read_body(request_of(b"{}", **chunked)) == b"{}"
    request = request_of(b"x" * (MAX_BODY_BYTES + 5), **chunked)
    with pytest.raises(ApiError) as caught:
        read_body(request)
    assert caught.value.status == 413
    assert request.environ["wsgi.input"].read() == b""


def test_draining_ends(monkeypatch):
    monkeypatch.setattr(body_module, "DRAIN_BYTES", 3000)
    monkeypatch.setattr(body_module, "DRAIN_STEP_BYTES", 1000)
    request = request_of(b"x" * 10_000)
    drain(request)
    assert len(request.environ["wsgi.input"].read()) == 7000


def test_a_cut_body_is_said():
    with pytest.raises(ApiError) as caught:
        read_body(request_of(b"{}", CONTENT_LENGTH="10"))
    assert (caught.value.status, caught.value.error.code) == (400, "incomplete_body")


class Broken(io.BytesIO):
    def read(self, *_):
        raise OSError("secret internals")


def test_a_body_that_breaks_is_not_a_fault_of_the_service():
    request = request_of(b"{}", **{"wsgi.input": Broken()})
    with pytest.raises(ApiError) as caught:
        read_body(request)
    assert caught.value.status == 400
    assert "secret" not in caught.value.error.message
    drain(request)


def test_no_body():
    assert read_body(request_of(b"", CONTENT_LENGTH=None)) == b""


def test_the_server_is_told_when_a_request_has_arrived():
    told = []
    read_body(request_of(b"{}", **{ARRIVAL_KEY: told.append}))
    assert told == [None]
    told.clear()
    drain(request_of(b"{}", **{ARRIVAL_KEY: told.append}), 3.0)
    assert told == [3.0]


def many(values):
    return b'{"files":[' + b",".join([b'{"path":"a","content":""}'] * values) + b"]}"


TOO_MANY = {
    "objects": many(400_000),
    "lists": b'{"a":[' + b"[]," * 1_000_000 + b"[]]}",
    "numbers": b'{"a":[' + b"0," * 1_000_000 + b"0]}",
    "strings that end with a backslash": b'{"a":[' + b",".join([rb'"\\"'] * 400_000) + b"]}",
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_a_large_body_of_many_values_is_refused_before_any_is_made(name):
    with pytest.raises(ApiError) as caught:
        parse_object(TOO_MANY[name])
    assert (caught.value.status, caught.value.error.code) == (400, "too_many")


@pytest.mark.parametrize(
    "text", ["{[,]}" * 1_000_000, '"{[,' * 1_000_000, "\\" * 3_000_000, '\\"' * 1_000_000 + "["]
)
def test_brackets_in_a_large_text_are_no_values(text):
    assert parse_object(json.dumps({"language": "bash", "code": text}).encode())["code"] == text

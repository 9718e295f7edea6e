"""The messages of kernels: taken apart, bounded, and believed only as far as docs/kernels.md goes."""

from __future__ import annotations

import struct

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.kernel import MAX_JSON_BYTES, MAX_RESULTS, MAX_RESULTS_BYTES
from sandbox.sessions.kernel_replies import (
    MAX_MESSAGE_BYTES,
    KernelBroken,
    KernelMessage,
    ReplyParser,
    ResultList,
    encode_message,
    exception_of,
)


def parsed(data, size=65_536):
    parser = ReplyParser()
    return [message for at in range(0, len(data), size) for message in parser.feed(data[at : at + size])]


def display(**parts):
    return KernelMessage({"type": "display"}, {name.replace("_", "/"): value for name, value in parts.items()})


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["type", "a"]), st.text(max_size=20), min_size=1),
            st.dictionaries(st.text(min_size=1, max_size=8), st.binary(max_size=300), max_size=4),
        ),
        max_size=5,
    ),
    st.integers(1, 50),
)
def test_messages_arrive_as_they_were_sent(messages, size):
    sent = b"".join(encode_message(header, parts) for header, parts in messages)
    assert [(one.header, one.parts) for one in parsed(sent, size)] == messages


@given(st.binary(max_size=2000), st.integers(1, 100))
def test_any_bytes_are_messages_or_refused(data, size):
    try:
        for message in parsed(data, size):
            assert isinstance(message.header, dict)
    except KernelBroken:
        pass


@given(
    st.lists(st.tuples(st.booleans(), st.dictionaries(st.text(min_size=1, max_size=8), st.binary(max_size=300)))),
    st.integers(1, 50),
)
def test_messages_between_cells_are_taken_apart_and_not_kept(messages, size):
    parser, seen = ReplyParser(), []
    for keep, parts in messages:
        sent = encode_message({"type": "a"}, parts)
        for at in range(0, len(sent), size):
            seen += parser.feed(sent[at : at + size], keep=keep)
            assert keep or len(parser._buffer) <= 65_540
    assert [one.parts for one in seen] == [parts for keep, parts in messages if keep]


def test_a_message_that_began_between_cells_is_dropped_to_its_end():
    parser = ReplyParser()
    sent = encode_message({"type": "display"}, {"text/plain": bytes(1_000_000)})
    assert list(parser.feed(sent[:500_000], keep=False)) == []
    assert len(parser._buffer) == 0
    assert list(parser.feed(sent[500_000:] + encode_message({"type": "done"}))) == [
        KernelMessage({"type": "done"}, {})
    ]


def test_a_message_that_is_under_way_at_the_end_of_a_cell_is_let_go():
    parser = ReplyParser()
    sent = encode_message({"type": "display"}, {"text/plain": bytes(1_000_000)})
    assert list(parser.feed(sent[:500_000])) == []
    assert list(parser.feed(sent[500_000:700_000], keep=False)) == []
    assert len(parser._buffer) == 0
    assert list(parser.feed(sent[700_000:])) == []
    assert list(parser.feed(encode_message({"type": "done"}))) == [KernelMessage({"type": "done"}, {})]


def message(header):
    return struct.pack(">I", len(header)) + header


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 65_537),
        message(b"[]"),
        message(b"nonsense"),
        message(b'{"parts": 5}'),
        message(b'{"parts": [["a"]]}'),
        message(b'{"parts": [["a", -1]]}'),
        message(b'{"parts": [["a", true]]}'),
        message(b'{"parts": [["a", 1.5]]}'),
        message(orjson.dumps({"parts": [["a", MAX_MESSAGE_BYTES + 1]]})),
        message(orjson.dumps({"parts": [[str(n), MAX_MESSAGE_BYTES] for n in range(2)]})),
        message(orjson.dumps({"parts": [["a", 1], ["a", 1]]})),
        message(orjson.dumps({"parts": [[str(n), 0] for n in range(65)]})),
        message(b"[" * 60_000),
    ],
    ids=range(13),
)
def test_a_message_that_is_none_breaks_the_kernel(data):
    with pytest.raises(KernelBroken):
        parsed(data)


def test_formats_have_short_names_and_others_are_extra():
    results = ResultList()
    encoded = results.add(
        KernelMessage(
            {"type": "display", "is_main_result": True},
            {"text/plain": b"t", "application/json": b'{"a":1}', "text/x-own": b"o"},
        )
    )
    assert orjson.loads(encoded) == {
        "text": "t", "json": {"a": 1}, "extra": {"text/x-own": "o"}, "is_main_result": True, "display_id": None,
        "update": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", [b"NaN", b"{", b"", b"[" * 100 + b"]" * 100, b'"' + b"x" * MAX_JSON_BYTES + b'"', b"1 2"], ids=range(6)
)
def test_json_that_is_none_is_left_out(value):
    results = ResultList()
    found = results.add(display(text_plain=b"t", application_json=value))
    assert "json" not in orjson.loads(found)


def test_brackets_in_strings_are_no_depth():
    value = orjson.dumps({"a": "[" * 1000 + '\\"' + "{" * 1000})
    assert "json" in orjson.loads(ResultList().add(display(application_json=value)))


def test_a_result_of_other_names_breaks_the_kernel():
    with pytest.raises(KernelBroken):
        ResultList().add(KernelMessage({"type": "display"}, {"no type": b""}))


def test_results_beyond_the_bounds_are_counted():
    results = ResultList()
    for _ in range(MAX_RESULTS + 5):
        results.add(display(text_plain=b"t"))
    assert (len(results.encoded), results.dropped) == (MAX_RESULTS, 5)
    large = ResultList()
    assert large.add(display(text_plain=b"x" * (MAX_RESULTS_BYTES - 100))) is not None
    assert large.add(display(text_plain=b"x" * 101)) is None
    # Six bytes of JSON for one of text.
    assert ResultList().add(display(text_plain=b"\0" * (MAX_RESULTS_BYTES // 3))) is None


def test_an_exception_is_cut_to_its_bounds():
    found = exception_of({"name": b"E" * 999, "value": b"v\xff" * 99_999, "traceback": b"l\n" * 99_999})
    assert (len(found.name), len(found.traceback)) == (256, 200)
    assert len(found.value) <= 65_536
    assert exception_of({}).traceback == ()

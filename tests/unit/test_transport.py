"""Windows and messages of conversations, without a broker."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.frames import KINDS, MAX_MESSAGE_BYTES, MalformedMessage, NewerMessage, WireFrame, decode, encode
from transport.window import TELL_BYTES, WINDOW_BYTES, OutsideWindow, ReceiveWindow, SendWindow

NAMES = st.from_regex(r"[A-Za-z0-9_-]{0,64}", fullmatch=True)
NUMBERS = st.integers(0, 2**53 - 1)
FRAMES = st.builds(
    WireFrame,
    kind=st.sampled_from(sorted(KINDS)),
    conversation=NAMES,
    reply_to=st.from_regex(r"[A-Za-z0-9._-]{0,200}", fullmatch=True),
    sender=NAMES,
    offset=NUMBERS,
    consumed=NUMBERS,
    is_last=st.booleans(),
    not_after_ms=NUMBERS,
    facts=st.none() | st.dictionaries(st.text(max_size=4), st.integers(0, 9), min_size=1, max_size=3),
    payload=st.binary(max_size=300),
)


@given(FRAMES)
def test_a_frame_arrives_as_it_was_sent(frame):
    assert decode(encode(frame)) == frame


@given(st.binary(max_size=400) | FRAMES.map(encode), st.integers(0, 400))
def test_any_bytes_are_a_frame_or_malformed(body, end):
    with suppress(MalformedMessage, NewerMessage):
        assert decode(body[:end]).kind in KINDS


def test_a_message_that_is_too_long_is_malformed_whatever_it_says():
    body = encode(WireFrame("data", payload=b"x" * MAX_MESSAGE_BYTES))
    with pytest.raises(MalformedMessage, match="bytes"):
        decode(body)


def test_a_newer_message_says_whom_to_answer():
    body = encode(WireFrame("open", "c1", reply_to="q.api")).replace(b'"v":1', b'"v":7')
    with pytest.raises(NewerMessage, match="version 7") as caught:
        decode(body)
    assert (caught.value.conversation, caught.value.reply_to) == ("c1", "q.api")


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=5000), st.sampled_from(["arrive", "lose", "twice"]))))
def test_bytes_that_were_lost_or_came_twice_arrive_once_and_in_order(pieces):
    """Each piece is sent; some get lost, and whenever one is missing all that was not taken is sent again."""
    sending, receiving, sent, arrived = SendWindow(), ReceiveWindow(), b"", b""
    for given_piece, fate in pieces:
        piece = given_piece[: sending.room]
        offset = sending.send(piece)
        sent += piece
        for _ in range({"arrive": 1, "lose": 0, "twice": 2}[fate]):
            if not receiving.receive(offset, piece, is_last=False):
                assert receiving.receive(sending.acked, sending.kept(), is_last=False)
        arrived += bytes(receiving.pending)
        receiving.consume(len(receiving.pending))
        sending.acknowledge(receiving.consumed)
    assert receiving.receive(sending.acked, sending.kept(), is_last=True)
    arrived += bytes(receiving.pending)
    receiving.consume(len(receiving.pending))
    assert arrived == sent
    assert receiving.is_last_received


def test_there_is_room_for_a_window_and_no_more():
    sending, receiving = SendWindow(), ReceiveWindow()
    assert sending.room == WINDOW_BYTES
    sending.send(b"x" * WINDOW_BYTES)
    assert sending.room == 0
    assert receiving.receive(0, b"x" * WINDOW_BYTES, is_last=False)
    with pytest.raises(OutsideWindow):
        receiving.receive(WINDOW_BYTES, b"y", is_last=False)
    receiving.consume(TELL_BYTES - 1)
    assert not receiving.owes_credit()
    receiving.consume(1)
    assert receiving.owes_credit()
    assert sending.acknowledge(receiving.consumed)
    assert sending.room == TELL_BYTES
    assert not sending.acknowledge(1)  # an older number comes late


def test_nobody_takes_what_was_never_sent_or_sends_behind_the_end():
    sending, receiving = SendWindow(), ReceiveWindow()
    sending.send(b"abc")
    with pytest.raises(OutsideWindow):
        sending.acknowledge(4)
    assert receiving.receive(0, b"abc", is_last=True)
    assert receiving.receive(1, b"bc", is_last=True)
    with pytest.raises(OutsideWindow):
        receiving.receive(3, b"d", is_last=False)

"""The frames between api and a worker, and the control messages of a client, of arbitrary bytes and text."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.sessions.attach import AttachedClient, control_frame
from api.websockets.wire import Wire
from protocol import attach
from protocol.attach import AttachBroken, AttachParser, encode


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=100), max_size=8))
def test_arbitrary_bytes_are_frames_or_an_error(pieces):
    parser = AttachParser(attach.TO_WORKER)
    with contextlib.suppress(AttachBroken):
        for piece in pieces:
            assert all(kind in attach.TO_WORKER for kind, _ in parser.feed(piece))


@given(
    st.lists(st.tuples(st.sampled_from(sorted(attach.FROM_WORKER)), st.binary(max_size=200))), st.integers(1, 30)
)
def test_frames_arrive_however_they_are_cut(frames, step):
    data = b"".join(encode(kind, payload) for kind, payload in frames)
    parser = AttachParser(attach.FROM_WORKER)
    found = [frame for at in range(0, len(data), step) for frame in parser.feed(data[at : at + step])]
    assert found == frames


def test_a_long_payload_goes_in_pieces_and_a_longer_one_is_refused():
    data = bytes(range(256)) * 1000
    found = AttachParser(attach.FROM_WORKER).feed(encode(attach.STDOUT, data))
    assert b"".join(payload for _, payload in found) == data
    with pytest.raises(AttachBroken, match="too long"):
        AttachParser(attach.FROM_WORKER).feed(attach.STDOUT + (attach.MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big"))


@settings(max_examples=500)
@given(st.text(max_size=80) | st.from_regex(r'\{"type": *"(resize|signal|close_stdin|x)"[^}]{0,40}\}'))
@example('{"type":"resize","cols":1e400,"rows":1}')
@example("[" * 3000)
@example('{"type":"signal","signal":"SIG_DFL"}')
@example('{"type":"signal","signal":"__CLASS__"}')
@example('{"type":"close_stdin","x":1}')
def test_a_text_is_a_control_frame_or_names_what_is_wrong(text):
    wire = Wire(most_text=4096, most_bytes=10)
    talk = AttachedClient(has_terminal=True, release=lambda: None)
    talk.on_message(text, wire)
    found = AttachParser(attach.TO_WORKER).feed(bytes(talk.outgoing))
    assert all(kind in (attach.RESIZE, attach.SIGNAL, attach.INPUT_END) for kind, _ in found)
    assert len(found) + (b'"type": "error"' in wire.outgoing) == 1


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('{"type":"resize","cols":80,"rows":24}', b"Z\0\0\0\x0580 24"),
        ('{"type":"signal","signal":"SIGINT"}', b"S\0\0\0\x012"),
        ('{"type":"close_stdin"}', b"E\0\0\0\0"),
    ],
)
def test_control_messages(text, frame):
    assert control_frame(text) == frame


def test_what_a_broken_worker_sends_ends_the_websocket():
    released = []
    wire = Wire(most_text=10, most_bytes=10)
    talk = AttachedClient(has_terminal=True, release=lambda: released.append(1))
    talk.on_bytes(b"?????", wire)
    talk.on_close()
    assert (wire.is_closing, released) == (True, [1])

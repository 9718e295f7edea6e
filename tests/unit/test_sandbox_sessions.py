"""Channels of a session: what a sandbox may send, whatever it sends; and the stream that carries them."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import frames
from sandbox.agent_client.stdin import WINDOW_BYTES
from sandbox.frames import (
    FROM_SESSION,
    HEADER_BYTES,
    INITIAL_CREDIT,
    Frame,
    FrameParser,
    ProtocolError,
    frame,
    pack,
)
from sandbox.sessions.channel import ChannelEnded, ProcessEnd, SessionChannel
from sandbox.sessions.files import Entry, entries
from sandbox.sessions.stream import MOST_CHANNELS, MOST_PROCESSES, SessionStream, TooManyChannels

KINDS = st.sampled_from(sorted(FROM_SESSION))
CHANNELS = st.integers(0, 2**16 - 1)


@st.composite
def honest_frames(draw):
    kind = draw(KINDS)
    return Frame(bytes([kind]), draw(st.binary(max_size=min(FROM_SESSION[kind], 300))), draw(CHANNELS))


@given(st.lists(honest_frames(), max_size=8), st.lists(st.integers(1, 50), max_size=60))
def test_frames_of_any_channel_arrive_however_they_are_cut(sent, cuts):
    stream = b"".join(frame(item.kind, item.payload, item.channel) for item in sent)
    parser, got, at = FrameParser(in_session=True), [], 0
    for cut in cuts:
        got += parser.feed(stream[at : at + cut])
        at += cut
    got += parser.feed(stream[at:])
    assert (got, parser.pending_bytes) == (sent, 0)


@settings(max_examples=2000)
@given(st.lists(st.binary(max_size=400), max_size=10))
def test_arbitrary_bytes_give_bounded_frames_or_a_protocol_error(pieces):
    parser = FrameParser(in_session=True)
    try:
        for piece in pieces:
            for item in parser.feed(piece):
                assert len(item.payload) <= FROM_SESSION[item.kind[0]]
    except ProtocolError:
        return
    assert parser.pending_bytes <= HEADER_BYTES + max(FROM_SESSION.values())


# -- one channel -------------------------------------------------------------------------------------


@pytest.fixture
def sent():
    return []


@pytest.fixture
def channel(sent):
    made = SessionChannel(7, sent.append)
    yield made
    made.close()


def arrive(channel, kind, payload=b""):
    channel.arrived(Frame(kind, payload, channel.number))


def test_output_beyond_the_credit_breaks_the_protocol(channel):
    for _ in range(INITIAL_CREDIT // 65_536):
        arrive(channel, frames.STDOUT, bytes(65_536))
    with pytest.raises(ProtocolError, match="more output than was granted"):
        arrive(channel, frames.STDERR, b"x")


def test_what_is_taken_out_is_granted_again(channel, sent):
    for _ in range(4):
        arrive(channel, frames.STDOUT, bytes(65_536))
        assert channel.take() == [("stdout", bytes(65_536))]
    assert sent == [frame(frames.CREDIT, b"65536", 7)] * 4
    arrive(channel, frames.STDOUT, b"more")


def test_output_that_nobody_takes_any_more_is_granted_so_that_the_end_arrives(channel, sent):
    for _ in range(INITIAL_CREDIT // 65_536):
        arrive(channel, frames.STDOUT, bytes(65_536))
    channel.close()
    assert sent == [frame(frames.CREDIT, b"%d" % INITIAL_CREDIT, 7)]
    for _ in range(8):
        arrive(channel, frames.STDERR, bytes(65_536))
    assert sent[1:] == [frame(frames.CREDIT, b"65536", 7)] * 8
    arrive(channel, frames.EXIT, pack([b"signal", b"15"]))
    arrive(channel, frames.CLOSED)
    channel.close()
    assert (len(sent), channel.is_closed) == (9, True)


def test_the_end_is_told_behind_the_output(channel):
    arrive(channel, frames.STARTED, b"12")
    arrive(channel, frames.STDOUT, b"last words")
    arrive(channel, frames.EXIT, pack([b"exit", b"3"]))
    assert channel.end is None
    assert channel.take() == [("stdout", b"last words")]
    assert (channel.pid, channel.end, channel.is_closed) == (12, ProcessEnd(exit_code=3), False)
    arrive(channel, frames.CLOSED)
    assert channel.is_closed


@pytest.mark.parametrize("kind", [frames.STDOUT, frames.EXIT, frames.STARTED])
def test_nothing_comes_behind_the_end(channel, kind):
    arrive(channel, frames.EXIT, pack([b"exit", b"0"]))
    with pytest.raises(ProtocolError, match="behind the end"):
        arrive(channel, kind, b"1")


def test_a_channel_does_not_close_before_its_end(channel):
    with pytest.raises(ProtocolError, match="before its main process ended"):
        arrive(channel, frames.CLOSED)


def test_input_keeps_to_the_window(channel, sent):
    data = bytes(WINDOW_BYTES + 10)
    assert channel.write(data) == WINDOW_BYTES
    assert channel.write(data[WINDOW_BYTES:]) == 0
    arrive(channel, frames.STDIN_TAKEN, b"10")
    assert channel.write(data[WINDOW_BYTES:]) == 10
    assert len(sent) == 2
    with pytest.raises(ProtocolError, match="more stdin taken"):
        arrive(channel, frames.STDIN_TAKEN, b"%d" % (WINDOW_BYTES + 1))


def test_a_lost_session_is_told_once_everything_else_was(channel):
    arrive(channel, frames.STDOUT, b"before")
    channel.lost()
    assert channel.take() == [("stdout", b"before")]
    with pytest.raises(ChannelEnded):
        channel.take()


@pytest.mark.parametrize("payload", [b"", pack([b"exit"]), pack([b"exit", b"256"]), pack([b"signal", b"0"])])
def test_an_impossible_end_is_a_protocol_error(channel, payload):
    arrive(channel, frames.EXIT, payload)
    with pytest.raises(ProtocolError):
        channel.take()


# -- the stream --------------------------------------------------------------------------------------


@pytest.fixture
def stream():
    ours, theirs = socket.socketpair()
    lost = []
    made = SessionStream(ours, on_change=lambda: None, on_lost=lost.append)
    made.theirs, made.why = theirs, lost
    with ours, theirs:
        yield made


def test_numbers_are_not_used_again_while_their_channel_is_open(stream):
    channels = [stream.start_operation(b"stat", b"/work") for _ in range(MOST_CHANNELS)]
    assert len({channel.number for channel in channels}) == MOST_CHANNELS
    with pytest.raises(TooManyChannels):
        stream.start_operation(b"stat", b"/work")
    number = channels[0].number
    stream.theirs.sendall(frame(frames.EXIT, pack([b"exit", b"0"]), number) + frame(frames.CLOSED, b"", number))
    stream.receive()
    assert stream.start_operation(b"stat", b"/work").number not in {channel.number for channel in channels}


def test_a_kernel_that_was_started_ahead_counts_once_it_is_asked_for(stream):
    def start(**facts):
        return stream.start_kernel([b"python"], {}, b"/work", may_fork=True, **facts)

    start(is_ahead=True)
    assert (stream.open_channels, stream.is_quiet) == (0, True)
    for _ in range(MOST_PROCESSES):
        stream.start_process([b"true"], {}, b"/work")
    with pytest.raises(TooManyChannels):
        stream.start_process([b"true"], {}, b"/work")
    stream.claim_kernel()
    assert (stream.open_channels, stream.is_quiet) == (MOST_PROCESSES + 1, False)
    stream.lose("test")
    assert stream.open_channels == 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(frames.STDOUT, b"x", 9), "the sandbox broke the protocol"),
        (frame(frames.READY, b"", 1), "the sandbox broke the protocol"),
        (None, "the sandbox has ended"),
    ],
)
def test_a_sandbox_that_breaks_the_protocol_has_lost_its_session(stream, data, why):
    channel = stream.start_process([b"true"], {}, b"/work")
    if data is None:
        stream.theirs.shutdown(socket.SHUT_RDWR)
    else:
        stream.theirs.sendall(data)
    stream.receive()
    stream.receive()
    assert (stream.why, stream.is_lost) == ([why], True)
    with pytest.raises(ChannelEnded):
        channel.take()


# -- listings ----------------------------------------------------------------------------------------


@settings(max_examples=1000)
@given(st.lists(st.binary(max_size=100), max_size=8))
def test_a_listing_of_arbitrary_bytes_is_entries_or_a_protocol_error(pieces):
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(entry, Entry) for entry in entries(pieces))


def test_a_listing_is_read_however_it_is_cut():
    packed = pack([b"a\xff", b"symlink", b"5", b"511", b"1000", b"1000", b"1700000000000000000", b"/etc"])
    data = (len(packed).to_bytes(4, "big") + packed) * 3
    found = list(entries(data[at : at + 7] for at in range(0, len(data), 7)))
    assert found == [Entry(b"a\xff", "symlink", 5, 0o777, 1000, 1000, 1700000000000000000, b"/etc")] * 3

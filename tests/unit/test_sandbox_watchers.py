"""The watchers of a session: what a sandbox says of changes, whatever it says, and what is kept of it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import frames
from sandbox.frames import Frame, ProtocolError, pack
from sandbox.sessions.channel import SessionChannel
from sandbox.sessions.files import FileRefused
from sandbox.sessions.watchers import EVENTS_KEPT, MAX_EVENT_BYTES, SessionWatcher

ENTRY = [b"/work/d", b"directory", b"40", b"493", b"1000", b"1000", b"1700000000000000000", b""]


def said(*changes):
    packed = [pack(change) for change in changes]
    return b"".join(len(item).to_bytes(4, "big") + item for item in packed)


@pytest.fixture
def channel():
    made = SessionChannel(3, lambda _data: None)
    yield made
    made.close()


@pytest.fixture
def watcher(channel):
    channel.arrived(Frame(frames.STDERR, pack([b"ok", *ENTRY]), 3))
    made = SessionWatcher(channel)
    assert made.begin().name == b"/work/d"
    return made


def test_events_are_counted_and_kept(channel, watcher):
    data = said([b"create", b"a", b""], [b"move", b"a", b"b\xff"])
    for at in range(0, len(data), 7):
        channel.arrived(Frame(frames.STDOUT, data[at : at + 7], 3))
    events, is_over = watcher.events(0)
    assert [(event.seq, event.kind, event.path, event.to) for event in events] == [
        (1, "create", b"a", b""),
        (2, "move", b"a", b"b\xff"),
    ]
    assert (watcher.events(2), is_over) == (([], False), False)


def test_what_is_not_kept_any_more_is_told(channel, watcher):
    for number in range(EVENTS_KEPT + 5):
        channel.arrived(Frame(frames.STDOUT, said([b"modify", b"%d" % number, b""]), 3))
    events, _ = watcher.events(0)
    assert (len(events), events[0].kind, events[0].seq) == (EVENTS_KEPT + 1, "overflow", 5)
    assert [event.kind for event in watcher.events(5)[0][:1]] == ["modify"]


@pytest.mark.parametrize(
    "data",
    [
        said([b"explode", b"a", b""]),
        said([b"create", b"a"]),
        said([b"create", b"a", b"", b""]),
        (MAX_EVENT_BYTES + 1).to_bytes(4, "big"),
    ],
)
def test_what_no_honest_agent_says_breaks_the_protocol(channel, watcher, data):
    with pytest.raises(ProtocolError):
        channel.arrived(Frame(frames.STDOUT, data, 3))


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=200), max_size=8))
def test_arbitrary_bytes_are_events_or_break_the_protocol(pieces):
    channel = SessionChannel(3, lambda _data: None)
    with contextlib.closing(channel):
        channel.arrived(Frame(frames.STDERR, pack([b"ok", *ENTRY]), 3))
        watcher = SessionWatcher(channel)
        watcher.begin()
        with contextlib.suppress(ProtocolError):
            for piece in pieces:
                channel.arrived(Frame(frames.STDOUT, piece, 3))
        assert all(event.kind for event in watcher.events(0)[0])


def test_a_watch_that_is_refused(channel):
    channel.arrived(Frame(frames.STDERR, pack([b"error", b"not_a_directory", b"this is not"]), 3))
    with pytest.raises(FileRefused) as found:
        SessionWatcher(channel).begin()
    assert found.value.code == "not_a_directory"


def test_the_end_of_the_session_ends_the_watch(channel, watcher):
    channel.arrived(Frame(frames.STDOUT, said([b"remove", b"a", b""]), 3))
    channel.lost()
    assert channel.fileno() == -1, "its descriptor is given back, whoever comes to close it"
    events, is_over = watcher.events(0, 1)
    assert ([event.kind for event in events], is_over) == (["remove"], True)

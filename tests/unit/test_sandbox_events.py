"""A run's events: numbered without gaps, decoded as they come, and never more than one can keep."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.run.events import BUSY_EVENTS, COALESCE_S, FULL_CHARS, KEEPALIVE_S, EventLog


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def said(log):
    return [(event.kind, event.data) for event in log.after(0)]


def test_the_first_output_does_not_wait():
    clock = Clock()
    log = EventLog(clock)
    log.add("phase", {"name": "run"})
    log.output("stdout", b"a")
    assert said(log)[1:] == [("stdout", "a")]


def test_output_close_behind_other_output_comes_with_it():
    clock = Clock()
    log = EventLog(clock)
    for piece in (b"a", b"b", b"c"):
        log.output("stdout", piece)
    assert said(log) == [("stdout", "a")]
    assert log.due() == clock.now + COALESCE_S
    clock.now += COALESCE_S
    log.tick()
    assert said(log) == [("stdout", "a"), ("stdout", "bc")]


def test_the_streams_keep_their_order():
    log = EventLog(Clock())
    for kind, piece in (("stdout", b"1"), ("stdout", b"2"), ("stderr", b"3"), ("stdout", b"4")):
        log.output(kind, piece)
    log.add("artifact", {})
    assert said(log) == [("stdout", "1"), ("stdout", "2"), ("stderr", "3"), ("stdout", "4"), ("artifact", {})]


def test_much_output_does_not_wait():
    log = EventLog(Clock())
    log.output("stdout", b"a")
    log.output("stdout", b"b" * FULL_CHARS)
    assert len(log) == 2


def test_silence_is_broken_every_five_seconds():
    clock = Clock()
    log = EventLog(clock)
    log.output("stdout", b"a")
    for _ in range(2):
        clock.now = log.due()
        log.tick()
    assert [event.t_ms for event in log.after(0)] == [0, 5000, 10_000]
    assert said(log)[1:] == [("keepalive", None)] * 2
    assert KEEPALIVE_S == 5


def test_a_tick_before_its_time_says_nothing():
    log = EventLog(Clock())
    log.tick()
    assert len(log) == 0


def test_a_character_that_arrives_in_two_pieces():
    clock = Clock()
    log = EventLog(clock)
    log.output("stdout", "é".encode()[:1])
    assert len(log) == 0
    log.output("stdout", "é".encode()[1:] + "é".encode()[:1])
    log.end_of_output()
    assert log.text("stdout") == "é\ufffd"


def test_single_bytes_for_a_minute_make_some_thousand_events():
    clock = Clock()
    log = EventLog(clock)
    for _ in range(60_000):
        clock.now += 0.001
        log.output("stdout", b"x")
        log.tick()
    log.end_of_output()
    assert len(log.text("stdout")) == 60_000
    assert len(log) < BUSY_EVENTS + 60 / 0.02


PIECES = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=6), st.sampled_from([0.0, 0.001, 0.01]))
)


@given(PIECES)
def test_the_texts_are_the_bytes_decoded_and_the_timeline_measures_them(pieces):
    clock = Clock()
    log = EventLog(clock)
    for kind, data, pause_s in pieces:
        log.output(kind, data)
        clock.now += pause_s
        log.tick()
    log.end_of_output()
    for kind in ("stdout", "stderr"):
        raw = b"".join(data for name, data, _ in pieces if name == kind)
        assert log.text(kind) == raw.decode("utf-8", "replace")
        assert sum(entry[1] for entry in log.timeline() if entry[0] == kind) == len(log.text(kind))
    assert [event.seq for event in log.after(0)] == list(range(1, len(log) + 1))
    assert log.after(2) == log.after(0)[2:]

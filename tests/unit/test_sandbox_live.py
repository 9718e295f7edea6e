"""A live run: who hears it, who is too slow to, and how it is ended early."""

from __future__ import annotations

import json
import os
import select
import socket
import threading

import pytest

from dispatch.connection import LEAVE
from sandbox.run.live import BEHIND_BYTES, EventSink, LiveRun
from worker.unix_channel import UnixChannel


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def heard(sock):
    sock.setblocking(False)
    data = b""
    try:
        while piece := sock.recv(1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return [json.loads(line) for line in data.splitlines()]


def handle_event(live):
    """One sleep of the owner's."""
    poller = select.poll()
    live.register(poller)
    for fd, event in poller.poll(1000):
        live.handle_event(fd, event)


def test_a_stream_hears_everything(pair):
    live = LiveRun("run_1", "bash", outlet=EventSink(UnixChannel(pair[0]), "all"))
    live.status("running", queue_ms=0)
    live.output("stdout", b"hi")
    events = heard(pair[1])
    assert [(event["seq"], event["event"]) for event in events] == [(1, "info"), (2, "stdout")]
    assert events[0]["data"] | {"at": ""} == {
        "id": "run_1",
        "language": "bash",
        "status": "running",
        "at": "",
        "queue_ms": 0,
    }


def test_who_waits_for_the_end_hears_of_a_queue_only(pair):
    live = LiveRun("run_1", "bash", outlet=EventSink(UnixChannel(pair[0]), "status"))
    live.status("running")
    live.output("stdout", b"hi")
    assert heard(pair[1]) == []
    live.status("queued", position=3)
    live.status("running")
    assert [event["data"]["status"] for event in heard(pair[1])] == ["queued", "running"]


def test_a_slow_listener_is_behind_and_catches_up(pair):
    live = LiveRun("run_1", "bash", outlet=EventSink(UnixChannel(pair[0]), "all"))
    text = b"x" * 40_000
    while not live.is_backpressured:
        live.output("stdout", text)
    assert live.outlet.channel.unsent_bytes < BEHIND_BYTES + 2 * len(text)
    got = []
    while live.outlet.channel.unsent_bytes:
        got.append(pair[1].recv(1 << 20))
        handle_event(live)
    pair[0].shutdown(socket.SHUT_WR)
    while piece := pair[1].recv(1 << 20):
        got.append(piece)
    lines = b"".join(got).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(live.log) + 1))
    assert not live.is_backpressured


def test_a_listener_that_leaves_ends_the_run(pair):
    live = LiveRun("run_1", "bash", outlet=EventSink(UnixChannel(pair[0]), "all"))
    pair[1].sendall(LEAVE)
    pair[1].close()
    handle_event(live)
    assert (live.stop, live.outlet) == ("cancelled", None)


def test_a_listener_that_dies_interrupts_the_run(pair):
    live = LiveRun("run_1", "bash", outlet=EventSink(UnixChannel(pair[0]), "all"))
    live.output("stdout", b"unread")
    pair[1].close()
    handle_event(live)
    assert (live.stop, live.outlet) == ("interrupted", None)


def test_ending_it_early_wakes_the_owner_and_the_first_reason_counts():
    live = LiveRun("run_1", "bash")
    threading.Timer(0.05, live.cancel, ["cancelled"]).start()
    handle_event(live)
    live.cancel("stopping")
    assert live.stop == "cancelled"


def test_a_run_that_has_ended_is_not_ended_again():
    live = LiveRun("run_1", "bash")
    live.end()
    live.cancel("cancelled")
    assert live.stop is None


def test_followers_hear_what_came_before_and_what_comes():
    live = LiveRun("run_1", "bash")
    live.emit("phase", {"name": "run"})
    assert ([event.kind for event in live.follow(0, 5)[0]], live.has_listeners) == (["phase"], False)
    threading.Timer(0.05, live.emit, ["artifact", {}]).start()
    events, ended = live.follow(1, 5)
    assert ([(event.seq, event.kind) for event in events], ended) == ([(2, "artifact")], False)
    threading.Timer(0.05, live.end).start()
    assert live.follow(2, 5) == ([], True)


def test_a_follower_waits_no_longer_than_it_may():
    assert LiveRun("run_1", "bash").follow(0, 0.02) == ([], False)


def test_no_descriptor_is_left():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        LiveRun("run_1", "bash").end()
    assert len(os.listdir("/proc/self/fd")) == before

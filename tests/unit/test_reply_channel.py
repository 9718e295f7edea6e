"""Reply channels: the one of the Unix socket, and one without a socket under live runs and request handlers."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from dispatch.connection import LEAVE
from sandbox.run.live import BEHIND_BYTES, EventSink, LiveRun, Timestamps
from sandbox.run.reply_channel import HUNG_UP
from worker import handlers as operations
from worker.handlers import Connection, RequestHandlers
from worker.runs import RunTable
from worker.server import RequestReader
from worker.unix_channel import UnixChannel


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, theirs:
        yield ours, theirs


def read_lines(sock, count):
    with sock.makefile() as lines:
        return [json.loads(next(lines)) for _ in range(count)]


def is_hung_up(channel):
    poller = select.poll()
    poller.register(channel.closed_fd(), select.POLLRDHUP)
    return any(event & HUNG_UP for _, event in poller.poll(0))


# -- the Unix socket's -----------------------------------------------------------------------------


def test_several_messages_are_a_line_each_and_what_orjson_knows_may_be_in_them(pair):
    UnixChannel(pair[0]).send({"a": Timestamps(1.0)}, {"b": "\n"})
    first, second = read_lines(pair[1], 2)
    assert (first["a"]["accepted"], second) == (1.0, {"b": "\n"})


def test_what_was_pushed_and_not_taken_comes_before_what_is_sent(pair):
    channel = UnixChannel(pair[0])
    pushed = [{"n": n, "text": "x" * 30_000} for n in range(10)]
    channel.push(*pushed)
    assert 0 < channel.unsent_bytes < 300_000 + 1000
    got = []
    reader = threading.Thread(target=lambda: got.extend(read_lines(pair[1], 11)))
    reader.start()
    channel.send({"result": 1})
    reader.join(10)
    assert got == [*pushed, {"result": 1}]
    assert channel.unsent_bytes == 0


def test_to_push_waits_for_nobody_and_flush_goes_on_where_it_stopped(pair):
    channel = UnixChannel(pair[0])
    message = {"text": "x" * 30_000}
    began = time.monotonic()
    for _ in range(10):
        channel.push(message)
    assert time.monotonic() - began < 5
    got = b""
    while channel.unsent_bytes:
        got += pair[1].recv(1 << 20)
        channel.flush()
    while got.count(b"\n") < 10:
        got += pair[1].recv(1 << 20)
    assert [json.loads(line) for line in got.splitlines()] == [message] * 10


def test_to_push_to_a_client_that_is_gone_raises_nothing_and_to_send_does(pair):
    channel = UnixChannel(pair[0])
    pair[1].close()
    channel.push({"a": 1})
    assert (channel.unsent_bytes, is_hung_up(channel)) == (len(b'{"a":1}\n'), True)
    with pytest.raises(OSError, match="Broken pipe"):
        channel.send({"b": 2})


@pytest.mark.parametrize("word", [LEAVE, b""])
def test_to_leave_is_told_from_hanging_up(pair, word):
    channel = UnixChannel(pair[0])
    assert (is_hung_up(channel), channel.has_left()) == (False, False)
    pair[1].sendall(word)
    pair[1].close()
    assert (is_hung_up(channel), channel.has_left()) == (True, bool(word))


@pytest.mark.parametrize("word", [LEAVE, b""])
def test_to_leave_with_the_request_is_told_from_hanging_up_too(pair, word):
    reader = RequestReader(pair[0])
    channel = UnixChannel(pair[0], reader.has_read_ahead)
    pair[1].sendall(b'{"op":"run"}\n' + word)
    pair[1].close()
    assert next(reader.lines()) == b'{"op":"run"}'
    assert (is_hung_up(channel), channel.has_left()) == (True, bool(word))


def test_one_that_was_closed_here_has_no_descriptor():
    ours, theirs = socket.socketpair()
    channel = UnixChannel(ours)
    ours.close()
    theirs.close()
    assert channel.closed_fd() < 0
    assert Connection(channel, 0).is_gone()


# -- one without a socket --------------------------------------------------------------------------


class MemoryChannel:
    """A client that takes `room` bytes and then none until it reads; its descriptor is an end of a socket pair."""

    def __init__(self, room=1 << 30):
        self.room = room
        self.got = []
        self.left = False
        self._unsent = []
        self._here, self._client = socket.socketpair()

    def send(self, *messages):
        if is_hung_up(self):
            raise ConnectionError("hung up")
        self.got += [*self._unsent, *messages]
        self._unsent = []

    def push(self, *messages):
        self._unsent += messages
        self.flush()

    def flush(self):
        while self._unsent and self.room > 0:
            self.got.append(self._unsent.pop(0))
            self.room -= len(json.dumps(self.got[-1]))

    @property
    def unsent_bytes(self):
        return sum(len(json.dumps(message)) for message in self._unsent)

    def closed_fd(self):
        return self._here.fileno()

    def has_left(self):
        return self.left

    def hang_up(self, *, leaving=False):
        self.left = leaving
        self._client.close()

    def close(self):
        self._here.close()
        self._client.close()


@contextmanager
def memory(room=1 << 30):
    channel = MemoryChannel(room)
    try:
        yield channel
    finally:
        channel.close()


def handle_event(live):
    """One sleep of a live run's owner."""
    poller = select.poll()
    live.register(poller)
    for fd, event in poller.poll(1000):
        live.handle_event(fd, event)


def test_a_live_run_is_held_up_and_goes_on_over_any_channel():
    with memory(room=1000) as channel:
        live = LiveRun("run_1", "bash", outlet=EventSink(channel, "all"))
        while not live.is_backpressured:
            live.output("stdout", b"x" * 40_000)
        assert BEHIND_BYTES < channel.unsent_bytes < BEHIND_BYTES + 100_000
        channel.room = 1 << 30
        handle_event(live)
        assert (live.is_backpressured, channel.unsent_bytes) == (False, 0)
        assert [message["seq"] for message in channel.got] == list(range(1, len(live.log) + 1))
        live.end()


@pytest.mark.parametrize(("leaving", "stop"), [(True, "cancelled"), (False, "interrupted")])
def test_a_live_run_ends_with_its_client_over_any_channel(leaving, stop):
    with memory() as channel:
        live = LiveRun("run_1", "bash", outlet=EventSink(channel, "status"))
        channel.hang_up(leaving=leaving)
        handle_event(live)
        assert (live.stop, live.outlet) == (stop, None)
        live.end()


def handlers(**service):
    return RequestHandlers(
        SimpleNamespace(
            sessions=SimpleNamespace(all=list, ends=list), session_executor=None, catalogue=(), **service
        ),
        RunTable(4),
    )


def test_a_request_is_answered_over_any_channel():
    with memory() as channel:
        handlers(status=lambda: {"ok": True}).answer(b'{"op":"status"}', Connection(channel, 0))
        assert channel.got == [{"status": {"ok": True}}]


def follow(served, channel):
    """Follow run_1 on a thread; it ends in this list."""
    ended = []

    def target():
        try:
            served.answer(b'{"op":"events","run_id":"run_1"}', Connection(channel, 0))
            ended.append("answered")
        except ConnectionError:
            ended.append("gone")

    thread = threading.Thread(target=target)
    thread.start()
    return thread, ended


def test_a_follower_hears_all_and_one_that_is_gone_is_noticed_in_silence(monkeypatch):
    monkeypatch.setattr(operations, "FOLLOW_S", 0.05)
    table = RunTable(4)
    served = RequestHandlers(
        SimpleNamespace(sessions=SimpleNamespace(all=list, ends=list), session_executor=None, catalogue=()), table
    )
    live = LiveRun("run_1", "bash")
    table.add(live)
    live.output("stdout", b"hi")
    live.end_of_output()
    with memory() as stays, memory() as goes:
        staying, stayed = follow(served, stays)
        going, went = follow(served, goes)
        goes.hang_up()
        going.join(10)
        assert went == ["gone"]
        live.end()
        staying.join(10)
        assert stayed == ["answered"]
        assert [message.get("event") for message in stays.got] == ["stdout", None]
        assert stays.got[-1] == {"followed": {"known": True}}


def test_a_collector_that_is_gone_is_told_nothing_more():
    table = RunTable(4)
    served = RequestHandlers(
        SimpleNamespace(sessions=SimpleNamespace(all=list, ends=list), session_executor=None, catalogue=()), table
    )
    with memory() as channel:

        def collect():
            with pytest.raises(ConnectionError):
                served.answer(b'{"op":"collect"}', Connection(channel, 0))

        thread = threading.Thread(target=collect)
        thread.start()
        while not channel.got:
            time.sleep(0.01)
        channel.hang_up()
        thread.join(10)
        assert not thread.is_alive()
        assert channel.got == [{"runs": {"live": {}, "sessions": {"live": [], "ended": []}}}]

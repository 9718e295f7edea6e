"""The relay between a sandbox's proxy and the egress process: hostile agents, windows, ends, and nobody there."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import JobInvalid
from protocol.network import NetworkAccess, decode_network, encode_network, proxy_environment
from sandbox import frames
from sandbox.frames import Frame, FrameParser, ProtocolError, frame
from sandbox.network import question
from sandbox.network.channel import WINDOW_BYTES
from sandbox.network.relay import MOST_CHANNELS, NetworkRelay
from sandbox.sessions.network import SessionNetwork

NUMBER = frames.FIRST_NETWORK_CHANNEL
ACCESS = NetworkAccess(("api.example.com",), ("x.example",), 1000)


class Egress:
    """A listener in the place of the egress process."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(128)
        self.listener.settimeout(5)
        self.accepted = []

    def accept(self):
        """Return the next connection and its opening line."""
        connection, _ = self.listener.accept()
        connection.settimeout(5)
        self.accepted.append(connection)
        line = b""
        while not line.endswith(b"\n"):
            line += connection.recv(1)
        return connection, json.loads(line)

    def close(self):
        for one in (*self.accepted, self.listener):
            one.close()


@pytest.fixture
def egress(tmp_path):
    made = Egress(tmp_path / "egress.sock")
    yield made
    made.close()


@pytest.fixture
def relay(tmp_path):
    made = NetworkRelay(tmp_path / "egress.sock", "run_1", "key_1", ACCESS)
    yield made
    made.close()


def turn(relay, timeout_ms=200):
    """Do what the worker's thread does in one turn; return the frames for the agent."""
    poller = select.poll()
    relay.register(poller)
    for fd, event in poller.poll(timeout_ms):
        assert relay.handle_event(fd, event)
    data = bytes(relay.outbox)
    relay.outbox.clear()
    found = []
    while data:
        kind, channel, length = frames.parse_header(data[: frames.HEADER_BYTES])
        end = frames.HEADER_BYTES + length
        found.append((bytes([kind]), channel, data[frames.HEADER_BYTES : end]))
        data = data[end:]
    return found


def feed(relay, items):
    for item in items:
        relay.handle_frame(item)


def opened(relay, egress):
    relay.handle_frame(Frame(frames.CONNECTED, b"", NUMBER))
    turn(relay)
    return egress.accept()


def test_the_egress_process_is_told_for_whom_a_connection_is(relay, egress):
    _, line = opened(relay, egress)
    assert line == {
        "op": "connect", "run": "run_1", "key": "key_1", "allow": ["api.example.com"], "deny": ["x.example"], "left": 1000,
        "version": 0, "for_build": False,
    }  # fmt: skip


def test_bytes_pass_both_ways_and_are_counted_without_the_line(relay, egress):
    connection, _ = opened(relay, egress)
    relay.handle_frame(Frame(frames.STDOUT, b"request", NUMBER))
    turn(relay)
    assert connection.recv(100) == b"request"
    connection.sendall(b"response!")
    assert turn(relay) == [(frames.STDIN, NUMBER, b"response!")]
    assert relay.moved_bytes == 16
    relay.handle_frame(Frame(frames.CLOSED, b"", NUMBER))
    assert relay.moved_bytes == 16
    assert connection.recv(100) == b""
    _, line = opened(relay, egress)
    assert line["left"] == 1000 - 16


def test_connections_beyond_the_rate_wait_in_the_worker_and_those_given_up_are_never_made(relay, egress):
    for number in range(NUMBER, NUMBER + 40):
        relay.handle_frame(Frame(frames.CONNECTED, b"", number))
    turn(relay, 0)
    for number in range(NUMBER + 20, NUMBER + 39):
        relay.handle_frame(Frame(frames.CLOSED, b"", number))
    made = [egress.accept() for _ in range(20)]
    assert len(made) == 20
    assert relay.due() < time.monotonic() + 0.1
    relay.handle_frame(Frame(frames.STDOUT, b"early", NUMBER + 39))
    time.sleep(0.1)
    turn(relay)
    connection, _ = egress.accept()
    assert connection.recv(10) == b"early"
    egress.listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        egress.listener.accept()


def test_each_end_is_passed_on_by_itself(relay, egress):
    connection, _ = opened(relay, egress)
    relay.handle_frame(Frame(frames.DATA_END, b"", NUMBER))
    turn(relay)
    assert connection.recv(100) == b""
    connection.sendall(b"late")
    connection.close()
    found = turn(relay) + turn(relay)
    assert found == [(frames.STDIN, NUMBER, b"late"), (frames.STDIN_END, NUMBER, b"")]


def test_no_more_is_sent_than_the_program_takes(relay, egress):
    connection, _ = opened(relay, egress)
    connection.setblocking(False)
    sent = 0
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            sent += connection.send(bytes(65_536))
        turn(relay, 10)
    assert relay.moved_bytes == WINDOW_BYTES < sent
    relay.handle_frame(Frame(frames.STDIN_TAKEN, b"1000", NUMBER))
    turn(relay)
    assert relay.moved_bytes == WINDOW_BYTES + 1000


def test_a_program_is_granted_what_was_passed_on_and_no_more(relay, egress):
    connection, _ = opened(relay, egress)
    piece = bytes(65_536)
    for _ in range(frames.INITIAL_CREDIT // len(piece)):
        relay.handle_frame(Frame(frames.STDOUT, piece, NUMBER))
    granted = 0
    received = 0
    while received < frames.INITIAL_CREDIT:
        received += len(connection.recv(1 << 20))
        granted += sum(int(payload) for kind, _, payload in turn(relay, 10) if kind == frames.CREDIT)
    assert granted == frames.INITIAL_CREDIT
    for _ in range(frames.INITIAL_CREDIT // len(piece)):
        relay.handle_frame(Frame(frames.STDOUT, piece, NUMBER))
    with pytest.raises(ProtocolError, match="granted"):
        feed(relay, [Frame(frames.STDOUT, piece, NUMBER)] * (frames.INITIAL_CREDIT // len(piece)))


@pytest.mark.parametrize(
    "items",
    [
        [Frame(frames.STDOUT, b"x", NUMBER)],
        [Frame(frames.CLOSED, b"", NUMBER)],
        [Frame(frames.CONNECTED, b"", NUMBER)] * 2,
        [Frame(frames.CONNECTED, b"", NUMBER), Frame(frames.STDIN_TAKEN, b"1", NUMBER)],
        [Frame(frames.CONNECTED, b"", NUMBER), Frame(frames.STDIN_TAKEN, b"-1", NUMBER)],
        [
            Frame(frames.CONNECTED, b"", NUMBER),
            Frame(frames.DATA_END, b"", NUMBER),
            Frame(frames.STDOUT, b"x", NUMBER),
        ],
        [Frame(frames.CONNECTED, b"", NUMBER), Frame(frames.EXIT, b"", NUMBER)],
        [Frame(frames.CONNECTED, b"", NUMBER + n) for n in range(MOST_CHANNELS + 1)],
    ],
)
@pytest.mark.usefixtures("egress")
def test_what_an_honest_agent_does_not_send_is_a_breach(relay, items):
    with pytest.raises(ProtocolError):
        feed(relay, items)


def test_where_nobody_listens_the_program_is_told_by_a_503(relay):
    relay.handle_frame(Frame(frames.CONNECTED, b"", NUMBER))
    answer, end = turn(relay, 0)
    assert answer[2].startswith(b"HTTP/1.1 503 ")
    head, _, body = answer[2].partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert end == (frames.STDIN_END, NUMBER, b"")
    relay.handle_frame(Frame(frames.STDOUT, b"request", NUMBER))
    relay.handle_frame(Frame(frames.DATA_END, b"", NUMBER))
    relay.handle_frame(Frame(frames.CLOSED, b"", NUMBER))


def test_a_killed_egress_process_closes_the_programs_end(relay, egress):
    connection, _ = opened(relay, egress)
    relay.handle_frame(Frame(frames.STDOUT, b"x" * 10, NUMBER))
    turn(relay)
    connection.close()  # with bytes unread: the kernel resets it
    kinds = {kind for kind, _, _ in turn(relay) + turn(relay, 10)}
    assert kinds & {frames.KILL, frames.STDIN_END}
    relay.handle_frame(Frame(frames.STDOUT, b"more", NUMBER))
    turn(relay, 10)


def test_after_the_end_of_the_run_late_frames_are_passed_over(relay, egress):
    connection, _ = opened(relay, egress)
    relay.close()
    assert connection.recv(10) == b""
    relay.handle_frame(Frame(frames.STDOUT, b"late", NUMBER))
    relay.handle_frame(Frame(frames.CONNECTED, b"", NUMBER + 1))
    assert turn(relay, 0) == []


def test_frames_of_connections_are_refused_where_there_is_no_network():
    for number in (NUMBER, 1, 0xFFFF):
        with pytest.raises(ProtocolError):
            FrameParser().feed(frame(frames.STDOUT, b"x", number))
    with pytest.raises(ProtocolError):
        FrameParser().feed(frame(frames.CONNECTED))
    parser = FrameParser(has_network=True)
    assert parser.feed(frame(frames.CONNECTED, b"", NUMBER))[0].channel == NUMBER
    for bad in (frame(frames.EXIT, b"", NUMBER), frame(frames.CONNECTED, b"x", NUMBER), frame(frames.CONNECTED)):
        with pytest.raises(ProtocolError):
            FrameParser(has_network=True).feed(bad)


def test_on_another_channel_than_the_runs_there_are_connections_alone():
    with pytest.raises(ProtocolError):
        FrameParser(has_network=True).feed(frame(frames.STDOUT, b"x", 5))


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_fail_otherwise(data):
    try:
        FrameParser(has_network=True).feed(data)
    except ProtocolError:
        return


@given(st.lists(st.text(max_size=20), max_size=4), st.none() | st.integers(0, 2**40))
def test_the_access_travels_whole(texts, most):
    access = NetworkAccess(tuple(texts), tuple(reversed(texts)), most)
    assert decode_network(json.loads(json.dumps(encode_network(access)))) == access


@pytest.mark.parametrize(
    "data", [[], {"allow": "x"}, {"allow": [1]}, {"allow": [], "most_bytes": True}, {"other": 1}]
)
def test_an_access_of_another_form_is_refused(data):
    with pytest.raises(JobInvalid):
        decode_network(data)


def test_the_proxy_is_named_in_both_cases():
    env = proxy_environment()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        assert env[name] == env[name.lower()]
    assert env["NODE_USE_ENV_PROXY"] == "1"


# -- of a session ----------------------------------------------------------------------------------


class Session:
    """A session's network, with what it sends to the agent and why it was lost."""

    def __init__(self, relay):
        self.sent = bytearray()
        self.lost = []
        self.network = SessionNetwork(relay, self.sent.extend, self.lost.append)

    def kinds(self):
        return {bytes([item.kind[0]]) for item in _frames_of(bytes(self.sent))}


def _frames_of(data):
    while data:
        kind, channel, length = frames.parse_header(data[: frames.HEADER_BYTES])
        end = frames.HEADER_BYTES + length
        yield Frame(bytes([kind]), data[frames.HEADER_BYTES : end], channel)
        data = data[end:]


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "session-network"]


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def session(relay):
    made = Session(relay)
    yield made
    made.network.close()
    wait_for(lambda: not threads())


def test_a_session_has_a_thread_while_it_has_connections_and_none_otherwise(session, egress):
    assert threads() == []
    for number in (NUMBER, NUMBER + 1):
        session.network.arrived(Frame(frames.CONNECTED, b"", number))
        connection, line = egress.accept()
        assert line["run"] == "run_1"
        assert len(threads()) == 1
        session.network.arrived(Frame(frames.STDOUT, b"question", number))
        assert connection.recv(100) == b"question"
        connection.sendall(b"answer")
        wait_for(lambda: frames.STDIN in session.kinds())
        session.network.arrived(Frame(frames.STDIN_TAKEN, b"6", number))
        session.network.arrived(Frame(frames.CLOSED, b"", number))
        wait_for(lambda: not threads())
        assert connection.recv(100) == b""
        session.sent.clear()
    assert session.network.moved_bytes == 2 * (8 + 6)


def test_connections_of_a_frozen_session_break_off_and_hold_no_thread(session, egress):
    session.network.arrived(Frame(frames.CONNECTED, b"", NUMBER))
    connection, _ = egress.accept()
    session.network.drop()
    assert connection.recv(100) == b""
    wait_for(lambda: not threads())
    assert session.kinds() == {frames.KILL}
    session.network.arrived(Frame(frames.CLOSED, b"", NUMBER))
    session.network.arrived(Frame(frames.CONNECTED, b"", NUMBER + 1))
    egress.accept()


def test_a_change_of_the_hosts_is_told_and_holds_for_connections_that_come_later(session, egress):
    session.network.arrived(Frame(frames.CONNECTED, b"", NUMBER))
    connection, line = egress.accept()
    assert (line["allow"], line["version"]) == (["api.example.com"], 0)
    change = threading.Thread(target=session.network.change, args=(NetworkAccess(("new.example",)),))
    change.start()
    asked, line = egress.accept()
    asked.sendall(b'{"ended":0}\n')
    change.join(5)
    assert {name: line[name] for name in ("op", "run", "allow", "deny", "version")} == {
        "op": "change", "run": "run_1", "allow": ["new.example"], "deny": [], "version": 1,
    }  # fmt: skip
    session.network.arrived(Frame(frames.CONNECTED, b"", NUMBER + 1))
    _, line = egress.accept()
    assert (line["op"], line["allow"], line["version"]) == ("connect", ["new.example"], 1)
    connection.sendall(b"still here")
    wait_for(lambda: frames.STDIN in session.kinds())


@pytest.mark.parametrize("answer", [b"x" * 20_000, b"[" * 9000 + b"\n", b"[]\n", b"\xff\n", b""])
def test_an_answer_of_another_form_is_none(egress, tmp_path, answer):
    found = []
    asking = threading.Thread(
        target=lambda: found.append(question.ask_egress(tmp_path / "egress.sock", {"op": "x"}))
    )
    asking.start()
    asked, _ = egress.accept()
    with contextlib.suppress(OSError):
        asked.sendall(answer)
    asked.close()
    asking.join(5)
    assert found == [None]


def test_a_change_that_nobody_answers_breaks_every_connection_off(session, egress, monkeypatch):
    monkeypatch.setattr(question, "ANSWER_S", 0.2)
    session.network.arrived(Frame(frames.CONNECTED, b"", NUMBER))
    connection, _ = egress.accept()
    session.network.change(NetworkAccess(()))
    assert connection.recv(100) == b""
    wait_for(lambda: session.kinds() == {frames.KILL})


def test_a_breach_in_a_connection_loses_the_session(session):
    session.network.arrived(Frame(frames.STDOUT, b"x", NUMBER))
    wait_for(lambda: session.lost == ["the sandbox broke the protocol"])
    session.network.arrived(Frame(frames.CONNECTED, b"", NUMBER))
    session.network.close()


def test_to_close_a_sessions_network_is_to_close_its_connections(session, egress):
    session.network.arrived(Frame(frames.CONNECTED, b"", NUMBER))
    connection, _ = egress.accept()
    session.network.close()
    assert connection.recv(100) == b""
    session.network.close()
    session.network.arrived(Frame(frames.CONNECTED, b"", NUMBER + 1))

"""Attachments of the worker: tickets, output at the reader's pace, input at the process's pace, and every end."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from types import SimpleNamespace

import pytest

from protocol import attach
from protocol.attach import AttachParser, encode
from sandbox import frames
from sandbox.agent_client.stdin import WINDOW_BYTES
from sandbox.frames import Frame, pack
from sandbox.sessions.channel import SessionChannel
from sandbox.sessions.output_budget import OutputBudget
from sandbox.sessions.processes import (
    LIVE_OUTPUT_BYTES,
    SESSION_OUTPUT_BYTES,
    ProcessSpec,
    ProcessTable,
    SessionProcess,
)
from worker.attach_tickets import MOST_TICKETS, TICKET_S, TicketGrant, TicketTable
from worker.attachments import Attachment, AttachmentHub, TooManyAttachments

GRANT = TicketGrant("sess_a", "key_a", "proc_a")


# -- tickets -----------------------------------------------------------------------------------------


def test_a_ticket_is_good_once_and_for_a_time():
    now = [0.0]
    table = TicketTable(lambda: now[0])
    one, late = table.issue(GRANT), table.issue(GRANT)
    assert one != late
    now[0] = TICKET_S - 1
    assert table.use(one, "sess_a", "proc_a") == GRANT
    assert table.use(one, "sess_a", "proc_a") is None
    now[0] = TICKET_S
    assert table.use(late, "sess_a", "proc_a") is None


@pytest.mark.parametrize("shown", [("sess_b", "proc_a"), ("sess_a", "proc_b"), ("sess_a", "")])
def test_a_ticket_that_is_shown_elsewhere_is_used_up(shown):
    table = TicketTable()
    ticket = table.issue(GRANT)
    assert table.use(ticket, *shown) is None
    assert table.use(ticket, "sess_a", "proc_a") is None


def test_tickets_are_bounded():
    table = TicketTable()
    first = table.issue(GRANT)
    for _ in range(MOST_TICKETS):
        last = table.issue(GRANT)
    assert (table.use(first, "sess_a", "proc_a"), table.use(last, "sess_a", "proc_a")) == (None, GRANT)
    assert table.use("x" * 100, "sess_a", "proc_a") is None


# -- kept output -------------------------------------------------------------------------------------


def test_what_is_kept_is_bounded_for_a_session_and_for_all():
    budget = OutputBudget(5 * 1024 * 1024)
    tables, made = [], []
    for _ in range(2):
        number = iter(range(1, 100))
        stream = SimpleNamespace(
            start_process=lambda *_, number=number: SessionChannel(next(number), lambda _: None)
        )
        tables.append(ProcessTable(SimpleNamespace(stream=stream), budget))
    for table in tables:
        for _ in range(6):
            process = table.start(ProcessSpec(("yes",), {}, "/work"))
            made.append(process)
            for _ in range(20):
                process.channel.arrived(Frame(frames.STDOUT, bytes(60_000), 1))
        of_session = sum(one.kept_bytes for one in table.all())
        assert of_session <= SESSION_OUTPUT_BYTES
    assert sum(one.kept_bytes for one in made) <= 5 * 1024 * 1024
    assert all(one.kept_bytes or one.dropped_bytes for one in made)
    for table in tables:
        table.close()
    assert budget.change(0) == 0
    assert budget.change(5 * 1024 * 1024) == 0, "everything was given back"
    for one in made:
        one.channel.close()


# -- attachments -------------------------------------------------------------------------------------


class Process:
    """A process whose agent is the test."""

    def __init__(self):
        self.sent = []
        self.channel = SessionChannel(1, self.sent.append)
        self.process = SessionProcess(ProcessSpec(("true",), {}, "/work"), self.channel, lambda _: None)
        self.process.watch()

    def says(self, kind, payload=b""):
        self.channel.arrived(Frame(kind, payload, 1))


@pytest.fixture
def process():
    made = Process()
    yield made
    made.channel.close()


@pytest.fixture
def session():
    return SimpleNamespace(end_reason=None, in_use=lambda *, waits: contextlib.nullcontext(waits))


@pytest.fixture
def hub():
    return AttachmentHub()


class Reader:
    def __init__(self, hub, session, process, after=0):
        ours, self.sock = socket.socketpair()
        self.sock.settimeout(10)
        self.parser = AttachParser(attach.FROM_WORKER)
        self.frames = []
        self.attachment = Attachment(session, process.process, ours, after)
        try:
            hub.reserve(self.attachment)
        except TooManyAttachments:
            self.attachment.close()
            self.sock.close()
            raise
        ours.setblocking(False)
        hub.begin(self.attachment)

    def until(self, kind):
        while True:
            for index, frame in enumerate(self.frames):
                if frame.kind == kind:
                    del self.frames[: index + 1]
                    return frame.payload
            data = self.sock.recv(65536)
            assert data, self.frames
            self.frames += self.parser.feed(data)


def test_output_comes_behind_ready_and_the_end_behind_all_output(hub, session, process):
    process.says(frames.STDOUT, b"early")
    reader = Reader(hub, session, process)
    time.sleep(0.1)
    process.says(frames.STARTED, b"7")
    assert json.loads(reader.until(attach.TEXT)) == {"type": "ready", "pid": 7}
    assert reader.until(attach.STDOUT) == b"early"
    process.says(frames.STDERR, b"late")
    process.says(frames.EXIT, pack([b"signal", b"9"]))
    assert reader.until(attach.STDERR) == b"late"
    assert json.loads(reader.until(attach.TEXT)) == {"type": "exit", "exit_code": None, "signal": "SIGKILL"}
    assert attach.decode_close(reader.until(attach.CLOSE))[0] == 1000
    assert reader.sock.recv(1) == b""
    reader.sock.close()


def test_a_slow_reader_is_told_what_it_missed_and_holds_little(hub, session, process):
    process.says(frames.STARTED, b"7")
    reader = Reader(hub, session, process)
    for _ in range(200):
        process.says(frames.STDOUT, bytes(60_000))
        process.process.channel.take()
    assert len(reader.attachment._unsent) < LIVE_OUTPUT_BYTES
    process.says(frames.EXIT, pack([b"exit", b"0"]))
    texts = []
    while not texts or texts[-1]["type"] != "exit":
        texts.append(json.loads(reader.until(attach.TEXT)))
    kinds = [text["type"] for text in texts]
    assert (kinds[0], set(kinds[1:-1]), kinds[-1]) == ("ready", {"info"}, "exit")
    # Output that is dropped after the reader has got it is not missing for it, and not reported.
    assert 10_000_000 < texts[-2]["dropped_bytes"] <= process.process.dropped_bytes
    reader.sock.close()


def test_input_waits_for_the_process_and_nothing_else_does(hub, session, process):
    process.says(frames.STARTED, b"7")
    reader = Reader(hub, session, process)
    reader.sock.sendall(encode(attach.INPUT, bytes(WINDOW_BYTES + 100)) + encode(attach.INPUT_END))
    process.says(frames.STDOUT, b"meanwhile")
    assert reader.until(attach.STDOUT) == b"meanwhile"
    time.sleep(0.2)
    assert sum(len(data) - frames.HEADER_BYTES for data in process.sent) == WINDOW_BYTES
    process.says(frames.STDIN_TAKEN, b"%d" % WINDOW_BYTES)
    deadline = time.monotonic() + 5
    while process.sent[-1][:1] != frames.STDIN_END and time.monotonic() < deadline:
        time.sleep(0.01)
    kinds = [data[:1] for data in process.sent]
    assert kinds[-2:] == [frames.STDIN, frames.STDIN_END]
    reader.sock.close()


@pytest.mark.parametrize(
    "sent",
    [b"????????", encode(attach.SIGNAL, b"x"), encode(attach.RESIZE, b"80"), encode(attach.RESIZE, b"9999999 1")],
)
def test_a_peer_that_breaks_the_protocol_is_dropped(hub, session, process, sent):
    process.says(frames.STARTED, b"7")
    reader = Reader(hub, session, process)
    reader.until(attach.TEXT)
    reader.sock.sendall(sent)
    assert reader.sock.recv(100) == b""
    reader.sock.close()


def test_four_attachments_of_a_process(hub, session, process):
    readers = [Reader(hub, session, process) for _ in range(4)]
    with pytest.raises(TooManyAttachments):
        Reader(hub, session, process)
    readers.pop().sock.close()
    deadline = time.monotonic() + 5
    while True:
        with contextlib.suppress(TooManyAttachments):
            readers.append(Reader(hub, session, process))
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for reader in readers:
        reader.sock.close()


def test_the_end_of_a_session_is_told_as_such(hub, session, process):
    process.says(frames.STARTED, b"7")
    reader = Reader(hub, session, process)
    session.end_reason = "idle"
    process.channel.lost()
    assert attach.decode_close(reader.until(attach.CLOSE)) == (1001, "the session has ended: idle")
    reader.sock.close()

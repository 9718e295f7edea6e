"""Programs that attack through a terminal, and clients that attack through a WebSocket."""

from __future__ import annotations

import json
import struct
import time

import pytest

from tests.adversarial.test_sessions import Inside
from tests.support.websocket import Refused, WebSocket

SIZE = {"cols": 80, "rows": 24}


class Attached(Inside):
    """A session and attachments to its processes."""

    def attach(self, process, query="", token="dev_123", **options):
        return WebSocket(self.service, f"{self.path}/processes/{process}/attach{query}", token=token, **options)

    def started(self, command, **fields):
        reply = self.start(command, **fields)
        assert reply.status == 201, reply.body
        return reply.body["id"]

    def delete(self, process):
        return self.service.request("DELETE", f"{self.path}/processes/{process}")

    def gone(self, name):
        deadline = time.monotonic() + 15
        while name in self.others() and time.monotonic() < deadline:
            time.sleep(0.2)
        return name not in self.others()


@pytest.fixture
def session(service, invariants):
    reply = service.post("/v1/sessions", json={"language": "bash", "limits": {"memory_mb": 256, "pids": 128}})
    assert reply.status == 201, reply.body
    yield Attached(service, reply.body["id"])
    service.request("DELETE", f"/v1/sessions/{reply.body['id']}")


# -- programs ----------------------------------------------------------------------------------------


def test_a_terminal_that_is_flooded_delays_nothing_else(session):
    flood = session.started("while :; do echo flood flood flood; done", pty=SIZE)
    with session.attach(flood) as reader:
        for _ in range(5):
            began = time.monotonic()
            assert session.service.get(f"{session.path}/files/stat?path=/work").status == 200
            assert time.monotonic() - began < 5
        reader.expect(b"flood flood flood\r\n")
        session.works()
        assert session.delete(flood).body["status"] == "ended"
        assert reader.ended(60)[0] == 1000


def test_readers_that_do_not_read_cost_a_bounded_amount(session):
    floods = [session.started("yes", pty=SIZE) for _ in range(4)]
    silent = [session.attach(flood) for flood in floods for _ in range(4)]
    time.sleep(3)
    session.works()
    for flood in floods:
        assert session.delete(flood).body["status"] == "ended"
    for reader in silent:
        assert reader.ended(60)[0] == 1000
        reader.sock.close()


def test_a_tree_that_left_its_terminal_dies_with_the_process(session):
    code = "for i in 1 2 3; do (setsid nohup sleep 4321 </dev/null >/dev/null 2>&1 &); done; trap '' HUP INT; sleep 4321"
    process = session.started(code, pty=SIZE)
    time.sleep(1)
    assert session.delete(process).body["status"] == "ended"
    assert session.gone("sleep")
    session.works()


def test_a_program_that_takes_all_terminals_takes_its_sessions_alone(session):
    hoard = "import os, time\nfds = []\ntry:\n    while True: fds.append(os.openpty())\nexcept OSError: print(len(fds), flush=True)\ntime.sleep(600)\n"
    made = session.service.post("/v1/sessions", json={"language": "python"}).body["id"]
    inside = Attached(session.service, made)
    try:
        holder = inside.service.post(f"{inside.path}/processes", json={"argv": ["python3", "-c", hoard]}).body["id"]
        time.sleep(1.5)
        ended = inside.start("echo x", pty=SIZE, wait=True)
        assert (ended.status, ended.body["exit_code"]) == (200, 126), ended.body
        assert "cannot start bash" in ended.body["stderr"]
        assert session.start("echo mine", pty=SIZE, wait=True).body["stdout"] == "mine\r\n"
        inside.delete(holder)
        assert inside.start("echo again", pty=SIZE, wait=True).body["stdout"] == "again\r\n"
    finally:
        session.service.request("DELETE", inside.path)


def test_a_program_that_lets_its_terminal_go_or_hangs_it_up(session):
    for code in (
        "exec <&- >&- 2>&-; sleep 1",
        "stty hup; kill -HUP $$",
        "python3 -c x 2>/dev/null; exec sleep 0.2 >/dev/null 2>&1 </dev/null",
    ):
        assert session.start(code, pty=SIZE, wait=True).status == 200
    session.works()


def test_escape_sequences_are_passed_on_and_never_acted_on(session):
    evil = (
        r"printf '\033]0;title\007\033]52;c;eA==\007\033[6n\033[c\033[21t\033P$q\033\\'; read -t 0.5 x; echo [$x]"
    )
    ended = session.start(evil, pty=SIZE, wait=True).body
    assert "\x1b]52;c;eA==\x07\x1b[6n" in ended["stdout"]
    assert ended["stdout"].endswith("[]\r\n"), "nobody has answered a question of the terminal"
    for log in (session.service.state / "log").iterdir():
        assert "52;c;eA==" not in log.read_text(errors="replace"), log


# -- clients -----------------------------------------------------------------------------------------


def masked(opcode, payload, *, announced=None, fin=True):
    size = len(payload) if announced is None else announced
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
    return bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + payload


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(2, bytes(2 * 1024 * 1024)), 1009),
        (masked(2, bytes(1024 * 1024 + 1), announced=2**62), 1009),
        (masked(1, b" " * 5000), 1009),
        (masked(1, b"\xff"), 1007),
        (b"\x82\x01x", 1002),
        (masked(3, b""), 1002),
        (masked(2, b"x" * 300_000, fin=False) + masked(0, b"x" * 300_000, fin=False) * 3, 1009),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10, 1002),
    ],
)
def test_a_frame_that_is_none_or_too_large_ends_that_websocket_alone(session, data, code):
    process = session.started("cat >/dev/null", pty=SIZE)
    with session.attach(process) as other, session.attach(process) as evil:
        try:
            evil.sock.sendall(data)
        except OSError:  # it was closed while it was sending
            return
        assert evil.ended()[0] in (code, 1006)
        other.send({"type": "signal", "signal": "SIGCONT"})
        other.until(lambda: other.texts)
        assert other.closed is None
    session.works()


def test_pings_without_end_are_answered_within_bounds(session):
    process = session.started("sleep 100", pty=SIZE)
    with session.attach(process) as evil:
        ping = bytes([0x89, 0x80 | 125]) + bytes(4) + bytes(125)
        evil.sock.settimeout(2)
        try:
            for _ in range(2000):
                evil.sock.sendall(ping * 100)
        except OSError:  # it does not read what it is answered, and is not read any more
            pass
        session.works()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "signal", "signal": "SIGFOO"},
        {"type": "signal", "signal": 9},
        {"type": "signal"},
        {"type": "resize", "cols": 10**9, "rows": 1},
        {"type": "resize", "cols": True, "rows": 1},
        {"type": "launch"},
        {},
        [],
        "[" * 4000,
        "not json",
        '{"type":"resize","cols":NaN,"rows":1}',
    ],
)
def test_a_message_that_says_nothing_is_answered_by_an_error(session, message):
    process = session.started("cat", pty=SIZE)
    with session.attach(process) as attached:
        attached.send(message if isinstance(message, str) else json.dumps(message))
        attached.until(lambda: any(text["type"] == "error" for text in attached.texts))
        attached.send(b"still there\n")
        attached.expect(b"still there")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"]
)
def test_a_foreign_page_attaches_to_nothing(session, origin):
    process = session.started("cat", pty=SIZE)
    ticket = session.service.post(f"{session.path}/processes/{process}/attach", data=b"").body["ticket"]
    for token, query in (("dev_123", ""), (None, f"?ticket={ticket}")):
        with pytest.raises(Refused) as e:
            session.attach(process, query, token, headers=[("Origin", origin)])
        assert (e.value.status, e.value.code) == (403, "foreign_origin")
    own = session.service.url
    with session.attach(process, f"?ticket={ticket}", None, headers=[("Origin", own)]) as page:
        page.until(lambda: page.texts)


@pytest.mark.parametrize("ticket", ["x", "at_" + "A" * 43, "at_", "%00", "%ff", "a" * 5000, "at_'--"])
def test_a_ticket_that_was_not_issued_admits_nobody(session, ticket):
    process = session.started("cat", pty=SIZE)
    with pytest.raises(Refused) as e:
        session.attach(process, f"?ticket={ticket}", None)
    assert e.value.status in (400, 403), e.value.body


@pytest.mark.parametrize(
    "query", ["?after=-1", "?after=x", "?after=99999999999999999999", "?after=1&after=2", "?who=me", "?ticket="]
)
def test_a_query_that_is_none_is_refused(session, query):
    process = session.started("cat", pty=SIZE)
    with pytest.raises(Refused) as e:
        session.attach(process, query)
    assert e.value.status in (400, 403), e.value.body


def test_clients_that_come_and_go_leave_nothing(session):
    process = session.started("cat", pty=SIZE)
    for index in range(60):
        client = session.attach(process)
        if index % 3 == 0:
            client.send(b"x" * 1000)
        if index % 3 == 1:
            client.close()
        client.sock.close()
        if index % 4 == 3:
            time.sleep(0.05)  # until the worker has seen them go: four at a time
    session.works()

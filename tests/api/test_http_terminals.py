"""Terminals of processes and WebSockets to processes, on the real service."""

from __future__ import annotations

import json
import socket
import time
from contextlib import contextmanager

import pytest

from tests.support.websocket import Refused, WebSocket

SHELL = {"argv": ["bash", "--norc", "-i"], "env": {"PS1": "$ "}, "pty": {"cols": 80, "rows": 24}}


def refused(reply, status, code, param=None):
    assert (reply.status, reply.body["error"]["code"]) == (status, code), reply.body
    assert reply.body["error"]["param"] == param


class Inside:
    """The calls of one session."""

    def __init__(self, service, **fields):
        self.service = service
        reply = service.post("/v1/sessions", json={"language": "bash", **fields})
        assert reply.status == 201, reply.body
        self.id = reply.body["id"]
        self.path = f"/v1/sessions/{self.id}"

    def post(self, path, **options):
        return self.service.post(self.path + path, **options)

    def get(self, path, **options):
        return self.service.get(self.path + path, **options)

    def delete(self):
        return self.service.request("DELETE", self.path)

    def start(self, **fields):
        reply = self.post("/processes", json=fields)
        assert reply.status == 201, reply.body
        return reply.body["id"]

    def process(self, name, query=""):
        return self.get(f"/processes/{name}{query}").body

    def ticket(self, process):
        reply = self.post(f"/processes/{process}/attach", data=b"")
        assert reply.status == 200, reply.body
        return reply.body["ticket"]

    def attach(self, process, query="", *, token="dev_123", **options):
        return WebSocket(self.service, f"{self.path}/processes/{process}/attach{query}", token=token, **options)

    @contextmanager
    def shell(self, **fields):
        with self.attach(self.start(**{**SHELL, **fields})) as shell:
            shell.expect(b"$ ")
            yield shell

    def says(self, command):
        return self.post("/processes", json={"command": command, "wait": True}).body["stdout"]


@pytest.fixture(scope="module")
def session(service):
    made = Inside(service)
    yield made
    assert made.delete().status == 200


@pytest.fixture
def own(service):
    """A session for one test alone."""
    made = Inside(service)
    yield made
    made.delete()


# -- terminals ---------------------------------------------------------------------------------------


def test_a_terminal_has_a_size_a_name_and_job_control(session):
    with session.shell() as shell:
        shell.send(b"tty; stty size; echo $TERM; cat & sleep 0.2; jobs\n")
        said = shell.expect(b"Stopped")  # a job in the background that reads the terminal
        assert b"/dev/pts/" in said
        assert b"24 80\r\nxterm-256color\r\n" in said
        shell.send(b"kill %1; wait; stty size; exit 3\n")
        assert shell.ended() == (1000, "the process has ended")
        assert shell.texts[-1] == {"type": "exit", "exit_code": 3, "signal": None}


def test_ctrl_c_interrupts_the_foreground_alone(session):
    with session.shell() as shell:
        shell.send(b"sleep 300 & (sleep 300 | sleep 300)\n")
        shell.expect(b"(sleep 300 | sleep 300)\r\n")
        time.sleep(0.5)
        shell.send(b"\x03")
        shell.expect(b"$ ")
        shell.send(b"echo st=$?; jobs; kill %1; exit\n")
        said = shell.expect(b"sleep 300 &")
        assert b"st=130\r\n" in said
        shell.ended()


def test_ctrl_z_stops_and_fg_continues(session):
    with session.shell() as shell:
        shell.send(b"sleep 300\n")
        time.sleep(0.4)
        shell.send(b"\x1a")
        shell.expect(b"Stopped")
        shell.send(b"fg\n")
        time.sleep(0.3)
        shell.send(b"\x1c")  # SIGQUIT
        shell.expect(b"$ ")
        shell.send(b"exit\n")
        shell.ended()


def test_a_terminal_is_resized_and_its_programs_are_told(session):
    command = "trap 'stty size' WINCH; echo begun; while :; do sleep 0.05; done"
    process = session.start(command=command, pty={"cols": 80, "rows": 24})
    with session.attach(process) as attached:
        attached.expect(b"begun\r\n")
        attached.send({"type": "resize", "cols": 132, "rows": 43})
        attached.expect(b"43 132\r\n")
        time.sleep(0.3)  # bash forgets a signal that comes while it handles the one before
        reply = session.post(f"/processes/{process}/resize", json={"cols": 1000, "rows": 1})
        assert (reply.status, reply.body["id"]) == (200, process)
        attached.expect(b"1 1000\r\n")
        attached.send({"type": "signal", "signal": "SIGKILL"})
        assert attached.ended()[0] == 1000
        assert attached.texts[-1] == {"type": "exit", "exit_code": None, "signal": "SIGKILL"}


def test_the_output_of_a_terminal_is_stdout_and_its_input_is_typed(session):
    body = {"command": "cat; echo err >&2", "pty": {"cols": 80, "rows": 24}, "stdin": "typed\n\x04", "wait": True}
    ended = session.post("/processes", json=body).body
    assert (ended["stdout"], ended["stderr"], ended["exit_code"]) == ("typed\r\ntyped\r\nerr\r\n", "", 0)


def test_the_end_of_the_input_of_a_terminal_is_typed_too(session):
    process = session.start(argv=["cat"], pty={"cols": 80, "rows": 24})
    assert session.service.post(f"{session.path}/processes/{process}/stdin?close=1", data=b"line\n").status == 200
    assert session.process(process, "?wait_s=10")["exit_code"] == 0


def test_what_keeps_the_terminal_open_dies_with_the_process(own):
    process = own.start(
        command="(trap '' HUP; exec sleep 987) & setsid sleep 987 & sleep 0.5", pty={"cols": 9, "rows": 9}
    )
    assert own.process(process, "?wait_s=10")["exit_code"] == 0
    own.service.request("DELETE", f"{own.path}/processes/{process}")
    deadline = time.monotonic() + 10
    while (
        "987" in own.says("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 98[7]'")
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert own.says("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 98[7]'") == ""


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"pty": {"cols": 0, "rows": 24}}, "pty.cols"),
        ({"pty": {"cols": 80, "rows": 1001}}, "pty.rows"),
        ({"pty": {"cols": 80, "rows": 24}, "stdin_open": False}, "stdin_open"),
        ({"stream": True, "wait": True}, "stream"),
        ({"on_disconnect": "kill"}, "on_disconnect"),
    ],
)
def test_a_terminal_that_cannot_be_is_refused(session, fields, param):
    refused(session.post("/processes", json={"argv": ["true"], **fields}), 400, "invalid_value", param)


@pytest.mark.parametrize(
    ("size", "code", "param"),
    [
        ({"cols": 80}, "missing_field", "rows"),
        ({"cols": "80", "rows": 24}, "invalid_type", "cols"),
        ({"cols": 80, "rows": 24, "width": 3}, "unknown_field", "width"),
        ({"cols": -1, "rows": 24}, "invalid_value", "cols"),
    ],
)
def test_a_size_that_is_none_is_refused(session, size, code, param):
    process = session.start(argv=["sleep", "1"], pty={"cols": 80, "rows": 24})
    refused(session.post(f"/processes/{process}/resize", json=size), 400, code, param)


def test_a_process_without_a_terminal_has_no_size(session):
    process = session.start(argv=["sleep", "5"])
    refused(
        session.post(f"/processes/{process}/resize", json={"cols": 80, "rows": 24}), 409, "not_a_terminal", "pty"
    )


def test_a_session_has_sixteen_terminals(own):
    for _ in range(16):
        own.start(argv=["sleep", "300"], pty={"cols": 80, "rows": 24})
    refused(
        own.post("/processes", json={"argv": ["true"], "pty": {"cols": 80, "rows": 24}}), 409, "session_busy", "pty"
    )
    assert own.post("/processes", json={"argv": ["true"], "wait": True}).body["exit_code"] == 0
    one = own.get("/processes").body["data"][0]["id"]
    own.service.request("DELETE", f"{own.path}/processes/{one}")
    deadline = time.monotonic() + 5
    while own.post("/processes", json=SHELL).status != 201:
        assert time.monotonic() < deadline
        time.sleep(0.1)


# -- streams and encodings ---------------------------------------------------------------------------


def test_a_process_is_streamed_from_its_start(session):
    body = {"command": "echo out; sleep 0.3; echo err >&2; exit 2", "stream": True}
    with session.service.events(f"{session.path}/processes", json=body) as stream:
        events = [event for _, event in stream]
    assert [event["event"] for event in events] == ["info", "stdout", "stderr", "result"]
    first, result = events[0]["data"], events[-1]["data"]
    assert (first["status"], first["dropped_bytes"], result["exit_code"]) == ("running", 0, 2)
    assert first["id"] == result["id"]
    assert first["pid"] == result["pid"] > 1


def test_a_silent_process_keeps_its_stream_alive(session):
    with session.service.events(
        f"{session.path}/processes", json={"argv": ["sleep", "5.5"], "stream": True}
    ) as stream:
        assert [event["event"] for _, event in stream] == ["info", "keepalive", "result"]


def test_output_is_told_raw_where_that_is_asked_for(session):
    body = {"command": "printf '\\377\\000x'", "wait": True, "encoding": "base64"}
    ended = session.post("/processes", json=body).body
    assert (ended["stdout"], ended["stderr"]) == ("/wB4", "")
    assert session.process(ended["id"], "?encoding=base64")["stdout"] == "/wB4"
    assert session.process(ended["id"])["stdout"] == "�\0x"
    refused(session.get(f"/processes/{ended['id']}?encoding=hex"), 400, "invalid_value", "encoding")


def test_a_late_reader_is_told_what_is_not_kept(session):
    process = session.start(
        command="head -c 3000000 /dev/zero | tr '\\0' x; echo; read x; echo last", stdin_open=True
    )
    while not session.says(f"cat /proc/{session.process(process)['pid']}/wchan >/dev/null; sleep 0.5; echo ok"):
        pass
    with session.service.events(f"{session.path}/processes/{process}/events") as events:
        first = next(events)[1]
        assert first["event"] == "info"
        assert first["data"]["dropped_bytes"] >= 3_000_000 - 1024 * 1024
    session.post(f"/processes/{process}/stdin?close=1", data=b"\n")
    with session.service.events(f"{session.path}/processes/{process}/events?after=now") as events:
        kinds = [(event["event"], event["data"]) for _, event in events]
    assert all(kind in ("info", "result") or data == "last\n" for kind, data in kinds)


@pytest.mark.parametrize("how", ["wait", "stream"])
def test_a_process_may_die_with_its_client(own, how):
    body = json.dumps({"argv": ["sleep", "765"], how: True, "on_disconnect": "kill"}).encode()
    with socket.create_connection((own.service.host, own.service.port)) as sock:
        sock.sendall(
            f"POST {own.path}/processes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer dev_123\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        deadline = time.monotonic() + 10
        while not own.get("/processes").body["data"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)
        (process,) = own.get("/processes").body["data"]
        assert process["status"] == "running"
    ended = own.process(process["id"], "?wait_s=10")
    assert (ended["status"], ended["signal"]) == ("ended", "SIGKILL")


def test_a_process_outlives_its_client_otherwise(own):
    body = json.dumps({"argv": ["sleep", "765"], "wait": True}).encode()
    with socket.create_connection((own.service.host, own.service.port)) as sock:
        sock.sendall(
            f"POST {own.path}/processes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer dev_123\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        time.sleep(0.5)
    time.sleep(1.5)
    assert own.get("/processes").body["data"][0]["status"] == "running"


# -- WebSockets --------------------------------------------------------------------------------------


def test_without_a_terminal_each_message_tells_its_stream(session):
    process = session.start(command="read line; echo out $line; echo err >&2; cat; exit 5", stdin_open=True)
    with session.attach(process) as attached:
        attached.until(lambda: attached.texts)
        assert attached.texts[0]["type"] == "ready"
        attached.send(b"hello\nmore")
        attached.until(lambda: b"\x01more" in attached.messages)
        attached.send({"type": "close_stdin"})
        assert attached.ended()[0] == 1000
        streams = {
            first: b"".join(m[1:] for m in attached.messages if m[:1] == first) for first in (b"\x01", b"\x02")
        }
        assert streams == {b"\x01": b"out hello\nmore", b"\x02": b"err\n"}
        assert attached.texts[-1] == {"type": "exit", "exit_code": 5, "signal": None}


def test_much_passes_both_ways_whole(session):
    data = bytes(range(256)) * 8192
    process = session.start(command="head -c 2097152 | tee /work/copy", stdin_open=True)
    with session.attach(process) as attached:
        for at in range(0, len(data), 300_000):
            attached.send(data[at : at + 300_000])
            attached.read(0.01)
        attached.ended(60)
        assert b"".join(message[1:] for message in attached.messages) == data
    assert session.get("/files?path=copy").raw == data


def test_a_ticket_is_good_once_and_stands_for_the_key(session):
    process = session.start(argv=["cat"], stdin_open=True)
    ticket = session.ticket(process)
    with session.attach(process, f"?ticket={ticket}", token=None) as attached:
        attached.send(b"x")
        attached.expect(b"\x01x")
    with pytest.raises(Refused) as again:
        session.attach(process, f"?ticket={ticket}", token=None)
    assert (again.value.status, again.value.code) == (403, "ticket_invalid")


def test_a_ticket_is_for_one_process(session):
    one, other = session.start(argv=["cat"], stdin_open=True), session.start(argv=["cat"], stdin_open=True)
    ticket = session.ticket(one)
    for process in (other, one):  # shown for another it is used up
        with pytest.raises(Refused) as e:
            session.attach(process, f"?ticket={ticket}", token=None)
        assert e.value.code == "ticket_invalid"


def test_no_ticket_is_in_the_log(service, session):
    process = session.start(argv=["cat"], stdin_open=True)
    ticket = session.ticket(process)
    session.attach(process, f"?ticket={ticket}", token=None).sock.close()
    time.sleep(0.5)
    for log in (service.state / "log").iterdir():
        assert ticket not in log.read_text(errors="replace"), log


def test_a_client_that_comes_late_gets_what_was_said(session):
    process = session.start(command="echo one; sleep 0.3; echo two; sleep 60")
    time.sleep(0.8)
    with session.attach(process) as whole:
        whole.expect(b"\x01two\n")
    with session.attach(process, "?after=1") as rest:
        assert rest.expect(b"two\n") == b"\x01two\n"
    with session.attach(process, "?after=now") as nothing:
        nothing.until(lambda: nothing.texts)
        nothing.read(0.5)
        assert nothing.messages == []
    session.service.request("DELETE", f"{session.path}/processes/{process}")


def test_an_ended_process_is_replayed(session):
    ended = session.post("/processes", json={"command": "echo was; exit 4", "wait": True}).body
    with session.attach(ended["id"]) as attached:
        assert attached.ended() == (1000, "the process has ended")
        assert attached.messages == [b"\x01was\n"]
        assert attached.texts[-1]["exit_code"] == 4


def test_four_clients_see_the_same(session):
    process = session.start(argv=["cat"], stdin_open=True)
    clients = [session.attach(process) for _ in range(4)]
    with pytest.raises(Refused) as fifth:
        session.attach(process)
    assert (fifth.value.status, fifth.value.code) == (409, "session_busy")
    clients[0].send(b"hello")
    for client in clients:
        client.expect(b"\x01hello")
    clients[0].close()
    assert clients[0].ended()[0] == 1000
    clients[0].sock.close()
    deadline = time.monotonic() + 5
    while True:
        try:
            clients[0] = session.attach(process)
            break
        except Refused:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    for client in clients:
        client.sock.close()


def test_the_end_of_the_session_closes_with_going_away(own):
    process = own.start(argv=["cat"], stdin_open=True)
    with own.attach(process) as attached:
        attached.until(lambda: attached.texts)
        own.delete()
        assert attached.ended() == (1001, "the session has ended: deleted")
    with pytest.raises(Refused) as e:
        own.attach(process)
    assert (e.value.status, e.value.code) == (410, "session_ended")


def test_an_attached_client_keeps_the_session_alive(service):
    made = Inside(service, idle_timeout_s=1)
    process = made.start(argv=["cat"], stdin_open=True)
    with made.attach(process) as attached:
        time.sleep(3)
        attached.send(b"still")
        attached.expect(b"\x01still")
    deadline = time.monotonic() + 10
    while service.get(made.path).body["status"] != "ended":
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_many_websockets_hold_no_thread(service, own):
    """More attached clients than the server has threads for streams; everything else is answered as before."""
    processes = [own.start(argv=["cat"], stdin_open=True) for _ in range(40)]
    clients = [own.attach(process) for process in processes for _ in range(4)]
    began = time.monotonic()
    assert service.run("bash", "echo hi")["stdout"] == "hi\n"
    assert time.monotonic() - began < 5
    for client, process in zip(clients[::4], processes, strict=True):
        client.send(process.encode())
    for client, process in zip(clients[3::4], processes, strict=True):
        client.expect(process.encode())
    for client in clients:
        client.sock.close()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 426, "upgrade_required"),
        ({"Upgrade": "websocket", "Connection": "Upgrade"}, 426, "upgrade_required"),
        (
            {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "8"},
            426,
            "upgrade_required",
        ),
        (
            {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "short",
            },
            400,
            "invalid_value",
        ),
    ],
)
def test_a_request_that_asks_for_no_websocket_is_refused(session, headers, status, code):
    process = session.start(argv=["sleep", "5"])
    reply = session.get(f"/processes/{process}/attach", headers=headers)
    assert (reply.status, reply.body["error"]["code"]) == (status, code)


def test_an_attachment_needs_its_owner(service, session):
    process = session.start(argv=["sleep", "5"])
    for token, status in ((None, 401), ("nobodys", 401), (service.other_token, 404)):
        with pytest.raises(Refused) as e:
            session.attach(process, token=token)
        assert e.value.status == status
    with pytest.raises(Refused) as e:
        session.attach("proc_none")
    assert (e.value.status, e.value.code) == (404, "process_not_found")
    assert (
        service.post(f"{session.path}/processes/{process}/attach", data=b"", token=service.other_token).status
        == 404
    )

"""Piston's WebSocket on the real service: a program that is written to while it runs."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.websocket import Refused, WebSocket

PATH = "/api/v2/connect"


def init(code, language="bash", **fields):
    return {"type": "init", "language": language, "version": "*", "files": [{"content": code}], **fields}


@pytest.fixture
def connect(service):
    opened = []

    def made(path=PATH, token=service.token, **options):
        opened.append(WebSocket(service, path, token=token, **options))
        return opened[-1]

    yield made
    for one in opened:
        one.sock.close()


def said(client, kind):
    """The messages of a kind that have come."""
    return [message for message in client.texts if message["type"] == kind]


def output(client, stream="stdout"):
    return "".join(message["data"] for message in said(client, "data") if message["stream"] == stream)


def test_a_program_is_written_to_while_it_runs(connect):
    client = connect()
    client.send(init("read a; echo got $a; echo err >&2; read b; echo then $b; exit 3"))
    client.until(lambda: said(client, "stage"))
    assert client.texts[0]["type"] == "runtime"
    assert client.texts[0]["language"] == "bash"
    client.send({"type": "data", "stream": "stdin", "data": "one\n"})
    client.until(lambda: output(client) == "got one\n")
    client.send({"type": "data", "stream": "stdin", "data": "two\n"})
    assert client.ended() == (4999, "Job Completed")
    assert (output(client), output(client, "stderr")) == ("got one\nthen two\n", "err\n")
    assert said(client, "stage") == [{"type": "stage", "stage": "run"}]
    assert said(client, "exit") == [{"type": "exit", "stage": "run", "error": None, "code": 3, "signal": None}]


def test_what_is_written_at_once_arrives_and_the_other_path_is_the_same(connect):
    client = connect("/api/v2/piston/connect")
    client.send(init("read x; echo $x $1", args=["arg"], stdin=""))
    client.send({"type": "data", "stream": "stdin", "data": "early\n"})
    assert client.ended()[0] == 4999
    assert output(client) == "early arg\n"


def test_a_program_is_signalled(connect):
    client = connect()
    client.send(init("trap 'echo told; exit 0' USR1; echo begun; while :; do sleep 0.05; done"))
    client.until(lambda: output(client) == "begun\n")
    client.send({"type": "signal", "signal": "SIGUSR1"})
    assert client.ended()[0] == 4999
    assert output(client) == "begun\ntold\n"


def test_a_killed_program_has_its_signal(connect):
    client = connect()
    client.send(init("echo begun; sleep 50"))
    client.until(lambda: output(client) == "begun\n")
    client.send({"type": "signal", "signal": "SIGKILL"})
    assert client.ended()[0] == 4999
    assert (said(client, "exit")[0]["code"], said(client, "exit")[0]["signal"]) == (None, "SIGKILL")


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], 4001),
        ([{"type": "data", "stream": "stdin", "data": "x"}], 4003),
        ([init("cat"), init("cat")], 4000),
        ([init("cat"), {"type": "data", "stream": "stdout", "data": "x"}], 4004),
        ([init("cat"), {"type": "signal", "signal": "SIGFOO"}], 4005),
        ([init("cat"), "not json"], 4002),
        ([init("cat", language="cobol")], 4002),
        ([{"type": "init"}], 4002),
        (["[" * 3000], 4002),
    ],
)
def test_what_a_client_does_wrong_has_pistons_code(connect, messages, code):
    client = connect()
    for message in messages:
        client.send(message)
    assert client.ended()[0] == code
    if code == 4002 and len(messages) == 1:
        assert said(client, "error")[0]["message"]


def test_a_client_that_goes_away_ends_its_program(service, connect):
    client = connect()
    client.send(init("echo begun; exec sleep 55"))
    client.until(lambda: output(client) == "begun\n")
    before = service.get("/v1/runs?limit=1").body["data"][0]
    assert before["status"] == "running"
    client.sock.close()
    assert service.ended(before["id"], seconds=20)["status"] == "cancelled"


def test_a_program_without_end_has_its_time(connect):
    client = connect()
    client.send(init("cat", run_timeout=500))
    assert client.ended()[0] == 4999
    assert said(client, "exit")[0]["signal"] == "SIGKILL"


def test_a_stranger_is_refused_before_the_upgrade(service, connect):
    with pytest.raises(Refused) as e:
        connect(token="nobodys")
    assert e.value.status == 401
    assert "message" in json.loads(e.value.body)
    with pytest.raises(Refused) as e:
        connect(headers=[("Origin", "https://evil.example")])
    assert e.value.status == 403
    assert service.get(PATH).status in (400, 404, 426)


def test_silent_clients_hold_nothing_for_long(service, connect):
    clients = [connect() for _ in range(12)]
    began = time.monotonic()
    assert service.run("bash", "echo hi")["stdout"] == "hi\n"
    assert time.monotonic() - began < 5
    for client in clients:
        assert client.ended(10)[0] == 4001

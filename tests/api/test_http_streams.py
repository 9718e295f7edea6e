"""Runs watched while they run, on the real service: JSON lines, server-sent events, slow and absent readers."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from tests.support.service import unsigned

LOOK = """
import sys, time
print("one"); time.sleep(0.7)
print("two", file=sys.stderr); time.sleep(0.7)
print("three")
open("/work/outputs/a.txt", "w").write("x")
"""


def kinds(events):
    return [event["event"] for event in events]


def test_output_is_seen_while_the_program_runs(service):
    with service.events(json={"language": "python", "code": LOOK, "stream": True}) as events:
        seen = list(events)
    events = [event for _, event in seen]
    assert kinds(events) == ["info", "phase", "stdout", "stderr", "stdout", "artifact", "result"]
    assert [event["seq"] for event in events] == list(range(1, 8))
    assert [event["data"] for event in events[2:5]] == ["one\n", "two\n", "three\n"]
    assert all(list(event) == ["seq", "event", "data", "t_ms"] for event in events)
    # Each arrived when it was written, not at the end.
    assert seen[-1][0] - seen[2][0] > 1.2
    assert seen[-1][0] - seen[3][0] > 0.6
    assert events[3]["t_ms"] - events[2]["t_ms"] > 500
    run = events[-1]["data"]
    assert (run["status"], run["stdout"], run["stderr"]) == ("succeeded", "one\nthree\n", "two\n")
    assert unsigned(run["artifacts"]) == unsigned([events[5]["data"]])
    assert unsigned(service.get(f"/v1/runs/{run['id']}").body) == unsigned(run)


def test_the_first_event_names_the_run(service):
    first = service.stream("bash", "true")[0]
    assert first["event"] == "info"
    assert first["data"]["id"].startswith("run_")
    assert (first["data"]["language"], first["data"]["status"]) == ("bash", "running")


def test_server_sent_events(service):
    reply = service.post(
        "/v1/runs",
        json={"language": "bash", "code": "printf 'a\\n\\nb'; exit 3", "stream": True},
        headers={"Accept": "text/event-stream"},
    )
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-store"
    events = []
    for block in reply.raw.decode().removesuffix("\n\n").split("\n\n"):
        number, kind, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert (number, kind) == (f"id: {event['seq']}", f"event: {event['event']}")
        events.append(event)
    assert set(kinds(events)) == {"info", "phase", "stdout", "result"}
    assert "".join(event["data"] for event in events if event["event"] == "stdout") == "a\n\nb"
    assert events[-1]["data"]["exit_code"] == 3


CUT = """
import os, time
for byte in "é☃\\N{GRINNING FACE}".encode() + b"\\xff\\xc3":
    os.write(1, bytes([byte])); time.sleep(0.02)
"""


def test_characters_arrive_whole_however_they_were_written(service):
    events = service.stream("python", CUT)
    texts = [event["data"] for event in events if event["event"] == "stdout"]
    assert "".join(texts) == "é☃\N{GRINNING FACE}\ufffd\ufffd" == events[-1]["data"]["stdout"]
    assert all(text for text in texts)


def test_single_bytes_arrive_in_few_events(service):
    code = "import os\nfor _ in range(50_000): os.write(1, b'x')"
    events = service.stream("python", code)
    assert events[-1]["data"]["stdout"] == "x" * 50_000
    assert len(events) < 5_000


def test_silence_is_broken(service):
    events = service.stream("bash", "sleep 5.5")
    assert kinds(events) == ["info", "phase", "keepalive", "result"]
    assert 4_900 < events[2]["t_ms"] < 5_500


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("exit 4", "failed"),
        ("sleep 9", "timeout"),
        ("kill -9 $$", "failed"),
        ("head -c 99999 /dev/zero", "succeeded"),
    ],
)
def test_every_end_closes_the_stream_once(service, code, status):
    limits = {"timeout_ms": 500, "max_output_bytes": 1000}
    events = service.stream("bash", code, limits=limits)
    assert kinds(events).count("result") == 1
    assert events[-1]["data"]["status"] == status
    assert sum(len(event["data"]) for event in events if event["event"] == "stdout") <= 1000


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"language": "nope"}, 400, "language"),
        ({"limits": {"timeout_ms": 0}}, 400, "limits.timeout_ms"),
        ({"background": True}, 400, "stream"),
    ],
)
def test_what_is_wrong_before_the_start_is_no_stream(service, fields, status, param):
    reply = service.post("/v1/runs", json={"language": "bash", "code": "true", "stream": True} | fields)
    assert (reply.status, reply.body["error"]["param"]) == (status, param)


def test_an_accept_that_admits_no_stream(service):
    body = {"language": "bash", "code": "true", "stream": True}
    reply = service.post("/v1/runs", json=body, headers={"Accept": "text/html"})
    assert (reply.status, reply.body["error"]["param"]) == (400, "Accept")


def test_a_reader_that_leaves_cancels_the_run(service):
    body = {"language": "bash", "code": "echo started; sleep 50", "stream": True, "limits": {"timeout_ms": 60_000}}
    with service.events(json=body) as events:
        run_id = next(events)[1]["data"]["id"]
        while next(events)[1]["event"] != "stdout":
            pass
    run = service.ended(run_id, seconds=5)
    assert (run["status"], run["stdout"]) == ("cancelled", "started\n")


#: NULs are six characters each in JSON: more than every buffer between the program and its reader can hold.
FLOOD = """
import os, time
began = time.monotonic()
for _ in range(70): os.write(1, bytes(100_000))
os.write(2, str(time.monotonic() - began).encode())
"""


def test_a_slow_reader_holds_the_program_up_and_loses_nothing(service):
    limits = {"timeout_ms": 30_000, "max_output_bytes": 8 << 20}
    body = json.dumps({"language": "python", "code": FLOOD, "stream": True, "limits": limits}).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.settimeout(60)
        client.connect((service.host, service.port))
        client.sendall(
            f"POST /v1/runs HTTP/1.0\r\nAuthorization: Bearer {service.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        time.sleep(2.5)
        pieces = []
        while data := client.recv(1 << 20):
            pieces.append(data)
    events = [json.loads(line) for line in b"".join(pieces).partition(b"\r\n\r\n")[2].splitlines()]
    run = events[-1]["data"]
    assert run["status"] == "succeeded"
    assert run["stdout"] == "\0" * 7_000_000
    assert "".join(event["data"] for event in events if event["event"] == "stdout") == run["stdout"]
    assert float(run["stderr"]) > 1.5


def test_many_streams_at_once_do_not_mix(service):
    with_names = [f"s{number}" for number in range(12)]
    results = {}

    def watch(name):
        events = service.stream("bash", f"for i in 1 2 3; do echo {name}-$i; sleep 0.1; done")
        results[name] = "".join(event["data"] for event in events if event["event"] == "stdout")

    threads = [threading.Thread(target=watch, args=(name,)) for name in with_names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {name: "".join(f"{name}-{i}\n" for i in (1, 2, 3)) for name in with_names}

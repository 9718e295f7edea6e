"""Answers that take long, of a real api process: they hold no thread, and arrive as they always did."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing

import pytest

from tests.support.apiprocess import Api
from tests.support.worker_script import ScriptedWorker

FOLLOWERS = 300
TOKEN = "dev_123"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
#: What an answer may take while everybody waits: the machine has other things to do.
SOON_S = 2.0


@pytest.fixture(scope="module")
def pair():
    """A worker's socket, and an api in front of it with a thread for few clients."""
    api = Api({"DRAIN_S": "1", "EVENT_READERS": "4", "STREAMS_MAX": str(FOLLOWERS)})
    worker = ScriptedWorker(api.state / "run/worker.sock")
    yield api.wait(), worker
    worker.close()
    api.end()


@pytest.fixture
def api(pair):
    return pair[0]


@pytest.fixture
def worker(pair):
    pair[1].forget()
    return pair[1]


def ask(api, method, path, body=None):
    connection = http.client.HTTPConnection(api.service.host, api.service.port, timeout=30)
    connection.request(method, path, None if body is None else json.dumps(body), AUTH)
    return connection


def answered(connection):
    with closing(connection):
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read() or b"null")


def new_run(api):
    status, run = answered(ask(api, "POST", "/v1/runs", {"language": "python", "code": "1", "background": True}))
    assert status == 202, run
    return run["id"]


def new_session(api):
    status, session = answered(ask(api, "POST", "/v1/sessions", {"language": "python"}))
    assert status == 201, session
    return session["id"]


def threads(api):
    (pid,) = api.workers()
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))


def output(seq, text="x"):
    return {"event": "stdout", "seq": seq, "data": text, "t_ms": seq}


def health_s(api):
    began = time.monotonic()
    assert api.service.get("/healthz", token=None).status == 200
    return time.monotonic() - began


def raw(api, request):
    sock = socket.create_connection((api.service.host, api.service.port), timeout=30)
    sock.sendall(request)
    return sock


def received(sock, end):
    data = b""
    while not data.endswith(end):
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def test_many_follow_while_others_are_answered(api, worker):
    run, session = new_run(api), new_session(api)
    with ExitStack() as open_now:
        paths = (
            f"/v1/runs/{run}/events",
            f"/v1/sessions/{session}/processes/p/events",
            f"/v1/sessions/{session}/processes/p?wait_s=600",
            f"/v1/sessions/{session}/files/watch?path=.",
        )
        connections = []
        for number in range(FOLLOWERS - len(paths)):
            connections.append(ask(api, "GET", paths[number % len(paths)]))
            open_now.callback(connections[-1].close)
        held = worker.wait_for(len(connections) + 1)  # and the collector's
        most = threads(api)
        assert max(health_s(api) for _ in range(20)) <= SOON_S
        # Each has an event at the same time, and all that are to end do.
        for one in held:
            kind = one.request.get("do", one.request["op"])
            if kind == "process":
                one.say({"process": {"id": "proc_x", "status": "running", **OUTPUTS}})
            elif kind == "watch":
                one.say({"event": "create", "seq": 1, "path": "a", "to": ""}, {"watched": {}})
            elif one.request["op"] == "events":
                one.say(output(1))
            elif kind == "events":
                one.say({"process": {"id": "proc_x", "status": "ended"}})
        for number, connection in enumerate(connections):
            reply = connection.getresponse()
            assert reply.status == 200
            line = reply.readline()
            assert line, paths[number % len(paths)]
            assert json.loads(line).get("event") != "keepalive"
        assert max(health_s(api) for _ in range(5)) <= SOON_S
        assert most <= 140  # those that wait a little for more, and the few that work


OUTPUTS = {"stdout": "", "stderr": "", "truncated": False, "kept_bytes": 0}


def test_the_bytes_of_a_stream_are_those_of_any_other(api, worker):
    run = new_run(api)
    head = f"GET /v1/runs/{run}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    with raw(api, f"{head}Accept: text/event-stream\r\n\r\n".encode()) as sock:
        (held,) = worker.wait_for(1, "events")
        time.sleep(0.5)  # it is suspended
        held.say(output(1, "é"))
        event = 'id: 1\nevent: stdout\ndata: {"event":"stdout","seq":1,"data":"é","t_ms":1}\n\n'.encode()
        chunk = b"%X\r\n%b\r\n" % (len(event), event)
        header = received(sock, chunk).removesuffix(chunk).decode()
        assert header.startswith("HTTP/1.1 200 OK\r\nServer: runyard\r\n")
        assert re.search(r"\r\nTransfer-Encoding: chunked\r\n", header)
        assert re.search(r"\r\nConnection: keep-alive\r\n", header)
        assert re.search(r"\r\nX-Accel-Buffering: no\r\n", header)
        assert header.endswith("\r\n\r\n")
        held.say(output(2, "b"), output(3, "c"))
        assert received(sock, b'"t_ms":3}\n\n\r\n').count(b"event: stdout") == 2


def test_a_connection_is_kept_after_a_stream_and_a_wait(api, worker):
    session = new_session(api)
    connection = http.client.HTTPConnection(api.service.host, api.service.port, timeout=30)
    for _ in range(2):
        worker.forget()
        connection.request("GET", f"/v1/sessions/{session}/files/watch?path=.", headers=AUTH)
        (held,) = worker.wait_for(1, "watch")
        time.sleep(0.3)
        held.say({"event": "create", "seq": 1, "path": "a", "to": ""}, {"watched": {}})
        reply = connection.getresponse()
        assert json.loads(reply.read())["path"] == "a"
        connection.request("GET", f"/v1/sessions/{session}/processes/p?wait_s=60", headers=AUTH)
        (held,) = worker.wait_for(1, "process")
        time.sleep(0.3)
        held.say({"process": {"id": "proc_x", "status": "running", **OUTPUTS}})
        reply = connection.getresponse()
        assert (reply.status, reply.headers["X-Content-Type-Options"]) == (200, "nosniff")
        assert reply.headers["x-request-id"].startswith("req_")
        assert "x-ratelimit-limit-requests" in reply.headers
        assert json.loads(reply.read()) == {"id": "proc_x", "status": "running"}
    connection.close()


def test_a_stream_of_a_process_ends_with_it(api, worker):
    session = new_session(api)
    for pause_s in (0.0, 0.5):  # it is suspended in between, or not
        worker.forget()
        connection = ask(api, "GET", f"/v1/sessions/{session}/processes/p/events?encoding=base64")
        (held,) = worker.wait_for(1, "events")
        data = base64.b64encode(bytes(60_000)).decode()
        held.say(*[{"event": "stdout", "seq": seq, "data": data, "t_ms": seq} for seq in range(1, 6)])
        time.sleep(pause_s)
        held.say({"process": {"id": "proc_x", "status": "ended"}})
        with closing(connection):
            *events, last = [json.loads(line) for line in connection.getresponse().read().splitlines()]
        assert [event["seq"] for event in events if event["event"] == "stdout"] == [1, 2, 3, 4, 5]
        assert last == {"event": "result", "data": {"id": "proc_x", "status": "ended"}}


def test_an_error_at_the_end_of_a_wait_has_its_status(api, worker):
    session = new_session(api)
    connection = ask(api, "GET", f"/v1/sessions/{session}/processes/p?wait_s=60")
    (held,) = worker.wait_for(1, "process")
    time.sleep(0.3)
    held.say({"refused": {"status": 404, "message": "none", "code": "process_not_found", "param": None}})
    status, body = answered(connection)
    assert (status, body["error"]["code"]) == (404, "process_not_found")
    worker.forget()
    connection = ask(api, "GET", f"/v1/sessions/{session}/processes/p?wait_s=60")
    (held,) = worker.wait_for(1, "process")
    time.sleep(0.3)
    held.end()
    status, body = answered(connection)
    assert (status, body["error"]["code"]) == (503, "worker_unavailable")


@pytest.mark.parametrize("path", ["events", "process", "watch", "run"])
def test_the_worker_sees_that_a_client_has_left(api, worker, path):
    session, run = new_session(api), new_run(api)
    where = {
        "events": f"/v1/sessions/{session}/processes/p/events",
        "process": f"/v1/sessions/{session}/processes/p?wait_s=600",
        "watch": f"/v1/sessions/{session}/files/watch?path=.",
        "run": f"/v1/runs/{run}/events",
    }[path]
    connection = ask(api, "GET", where)
    (held,) = worker.wait_for(1, "events" if path == "run" else path)
    time.sleep(0.4)
    connection.close()
    assert held.is_gone()


def test_who_left_has_given_the_place_back(api, worker):
    run = new_run(api)
    for _ in range(3):
        worker.forget()
        made = [ask(api, "GET", f"/v1/runs/{run}/events") for _ in range(FOLLOWERS)]
        held = worker.wait_for(FOLLOWERS, "events")
        refused = ask(api, "GET", f"/v1/runs/{run}/events")
        status, body = answered(refused)
        assert (status, body["error"]["code"]) == (429, "too_many_connections")
        for connection in made:
            connection.close()
        assert all(one.is_gone() for one in held)
        time.sleep(0.3)


def test_one_who_does_not_read_is_not_read_for_and_is_dropped(api, worker):
    run = new_run(api)
    request = f"GET /v1/runs/{run}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    with raw(api, request.encode()):
        (held,) = worker.wait_for(1, "events")
        held.sock.settimeout(1)
        # It takes what the kernel's buffers hold, and a little more.
        with pytest.raises(TimeoutError):
            held.say(*[output(seq, "y" * 100_000) for seq in range(1, 400)])
        assert max(health_s(api) for _ in range(5)) <= SOON_S
        assert held.is_gone(25)


def test_one_who_reads_slowly_gets_all_of_it(api, worker):
    run = new_run(api)
    connection = ask(api, "GET", f"/v1/runs/{run}/events")
    (held,) = worker.wait_for(1, "events")
    events = [output(seq, "z" * 1_000_000) for seq in range(1, 21)]
    saying = threading.Thread(target=held.say, args=events)
    saying.start()
    with closing(connection):
        reply = connection.getresponse()
        for event in events:
            time.sleep(0.1)
            assert json.loads(reply.readline()) == event
    saying.join()


def test_a_stream_goes_on_where_the_worker_was_lost(api, worker):
    run = new_run(api)
    connection = ask(api, "GET", f"/v1/runs/{run}/events")
    (held,) = worker.wait_for(1, "events")
    held.say(output(1))
    reply = connection.getresponse()
    assert json.loads(reply.readline())["seq"] == 1
    worker.forget()
    held.end()
    (held,) = worker.wait_for(1, "events")
    assert held.request["after"] == 1
    held.say(output(2))
    assert json.loads(reply.readline())["seq"] == 2
    connection.close()


def test_a_client_that_leaves_while_the_worker_is_lost_costs_nothing(api, worker):
    run = new_run(api)
    connection = ask(api, "GET", f"/v1/runs/{run}/events")
    (held,) = worker.wait_for(1, "events")
    time.sleep(0.3)
    (pid,) = api.workers()
    for _ in range(4):  # the worker answers each time that it does not know the run
        (held,) = worker.wait_for(1, "events")
        worker.drop(held)
        held.say({"followed": {"known": False}})
    connection.close()
    time.sleep(2)
    before = cpu_s(pid)
    time.sleep(1)
    assert cpu_s(pid) - before < 0.3
    assert worker.wait_for(0, "events") == []


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_process_that_stops_does_not_wait_for_streams():
    api = Api({"DRAIN_S": "1"})
    worker = ScriptedWorker(api.state / "run/worker.sock")
    try:
        api.wait()
        run = new_run(api)
        connection = ask(api, "GET", f"/v1/runs/{run}/events")
        worker.wait_for(1, "events")
        time.sleep(0.3)
        began = time.monotonic()
        api.process.send_signal(signal.SIGTERM)
        api.process.wait(20)
        assert time.monotonic() - began < 10
        with closing(connection), pytest.raises((http.client.HTTPException, ConnectionError)):
            connection.getresponse().read()
    finally:
        worker.close()
        api.end()

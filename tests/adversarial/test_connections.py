"""Two hundred connections of one client: half a request, half a body, nothing at all, or an answer that is not read.

Another client's hello is answered in two seconds and never refused, health in one.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

MANY = 200
#: As the service has them.
ARRIVING_MOST = 64
HEADERS_S = BODY_S = 5
HELLO_S, HEALTH_S = 2.0, 1.0
#: Of api's memory beyond that before, under any of these.
MORE_MB = 300

pytestmark = [pytest.mark.usefixtures("invariants"), pytest.mark.timeout(180)]


def head(service, *lines, path="/v1/runs", token=None, method="POST"):
    auth = [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *auth, *lines, "", ""]).encode()


def attacks(service):
    json_type = "Content-Type: application/json"
    return {
        "nothing": b"",
        "half a head": b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthoriz",
        "half a body to make a key": head(service, json_type, "Content-Length: 100", path="/v1/keys") + b'{"pl',
        "half a body": head(service, json_type, "Content-Length: 100", token=service.other_token) + b'{"la',
        "half a body of a wrong token": head(service, json_type, "Content-Length: 9999", token="wrong") + b"{",
        "half a large body": head(service, json_type, "Content-Length: 9000000", token=service.other_token)
        + bytes(100_000),
        "half of a chunk": head(service, json_type, "Transfer-Encoding: chunked", token=service.other_token)
        + b"fff\r\n{",
        "half an upload": head(
            service,
            "Content-Type: multipart/form-data; boundary=b",
            "Content-Length: 9000",
            path="/v1/files",
            token=service.other_token,
        )
        + b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx',
        "an upload of a wrong token": head(
            service,
            "Content-Type: multipart/form-data; boundary=b",
            "Content-Length: 9000",
            path="/v1/files",
            token="wrong",
        )
        + b"--b\r\n",
    }


@contextmanager
def many(service, sent, number=MANY, source="127.0.0.9"):
    """So many connections of one address, each of which has sent this."""
    with ExitStack() as undo:
        opened = []
        for _ in range(number):
            sock = socket.create_connection((service.host, service.port), timeout=30, source_address=(source, 0))
            opened.append(undo.enter_context(sock))
            sock.sendall(sent)
        yield opened


def others_are_served(service, seconds):
    """For so long: hello and health of another address, each time in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        reply = service.post("/v1/runs", json={"language": "bash", "code": "echo hi"})
        assert (reply.status, reply.body.get("stdout")) == (200, "hi\n"), reply.body
        assert time.monotonic() - began < HELLO_S
        began = time.monotonic()
        assert service.get("/healthz", token=None).status == 200
        assert time.monotonic() - began < HEALTH_S


@pytest.mark.parametrize("name", attacks(type("Any", (), {"other_token": ""})))
def test_requests_that_do_not_end(service, name):
    with many(service, attacks(service)[name]):
        others_are_served(service, 1.5)


def read_all(sock):
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_of_one_address_the_oldest_without_a_request_are_told_and_closed(service):
    with many(service, b"GET /healthz HTT", ARRIVING_MOST + 20) as opened:
        time.sleep(2.5)
        answers = [read_all(sock) for sock in opened[:20]]
        assert {answer.split(b" ")[1] for answer in answers} == {b"408"}
        for sock in opened[20:]:
            sock.sendall(b"P/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert {read_all(sock).split(b" ")[1] for sock in opened[20:]} == {b"200"}


def test_headers_and_bodies_have_their_seconds(service):
    sent = {
        "head": b"GET /healthz HTT",
        "body without a token": attacks(service)["half a body to make a key"],
        "body of a wrong token": attacks(service)["half a body of a wrong token"],
    }
    with ExitStack() as undo:
        opened = {name: undo.enter_context(many(service, data, 1))[0] for name, data in sent.items()}
        began = time.monotonic()
        answers = {name: read_all(sock) for name, sock in opened.items()}
        took = time.monotonic() - began
    assert HEADERS_S - 1 < took < HEADERS_S + BODY_S
    statuses = {name: answer.split(b" ")[1] for name, answer in answers.items()}
    assert statuses == {"head": b"408", "body without a token": b"408", "body of a wrong token": b"401"}
    for answer in answers.values():
        assert b"error" in answer.partition(b"\r\n\r\n")[2]


def test_a_body_without_a_token_is_small(service):
    request = head(service, "Content-Type: application/json", "Content-Length: 100000", path="/v1/keys")
    with many(service, request + bytes(20_000), 1) as (sock,):
        answer = read_all(sock)
    assert answer.split(b" ")[1] == b"413"
    assert b"16384" in answer


def test_more_idle_connections_than_there_may_be(service):
    """Beyond what all of them together may be, the longest idle one goes, and whoever comes is served."""
    idle = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as undo:
        for number in range(8):
            undo.enter_context(many(service, idle, MANY, f"127.0.1.{number + 1}"))
        others_are_served(service, 2)


LOUD = "head -c 8000000 /dev/zero | tr '\\0' '\\1'"
LOUD_LIMITS = {"max_output_bytes": 8_000_000}


@pytest.mark.parametrize("number", [60, MANY])
def test_answers_that_are_not_read(service, number):
    """Eight megabytes each, of control characters: nearly fifty as JSON."""
    run = service.run("bash", LOUD, token=service.other_token, limits=LOUD_LIMITS)
    assert len(run["stdout"]) == 8_000_000
    get = head(service, path=f"/v1/runs/{run['id']}", method="GET", token=service.other_token)
    with grows_little(service), many(service, get, number) as opened:
        others_are_served(service, 12)
        answer = read_all(opened[0])  # its client has taken less than it must in ten seconds
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(answer) < 6 * 8_000_000


def test_runs_whose_answers_are_not_read_hold_no_place(service):
    """More of them than may be waited for: each gives its place back when its result is recorded."""
    code = "head -c 8000000 /dev/zero | tr '\\0' x"
    body = json.dumps({"language": "bash", "code": code, "limits": LOUD_LIMITS}).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    request = head(service, *lines, token=service.other_token) + body
    with grows_little(service), many(service, request, 110) as opened, read_slowly(opened):
        others_are_served(service, 6)


@contextmanager
def read_slowly(opened):
    """Read what comes on these connections, each at 2 KB/s."""
    stop = threading.Event()

    def read():
        while not stop.wait(1):
            for sock in opened:
                with suppress(OSError):
                    sock.recv(2000, socket.MSG_DONTWAIT)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join()


def large_bodies():
    files = b",".join([b'{"path":"f","content":""}'] * 600_000)
    return {
        "of one file": (
            60,
            b'{"language":"bash","code":"echo hi","files":[{"path":"f","content":"%s"}]}' % (b"x" * 16_000_000),
        ),
        "of many files": (120, b'{"language":"bash","code":"echo hi","files":[%s]}' % files),
        "of brackets": (30, b'{"language":"bash","code":"echo hi","files":[%s]}' % (b"[]," * 5_000_000 + b"[]")),
    }


@pytest.mark.parametrize("name", ["of one file", "of many files", "of brackets"])
def test_large_bodies(service, name):
    number, body = large_bodies()[name]
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")

    def send(sock):
        with suppress(OSError):
            sock.sendall(head(service, *lines, token=service.other_token) + body)
            read_all(sock)

    with grows_little(service), many(service, b"", number) as opened, ThreadPoolExecutor(number) as pool:
        sent = [pool.submit(send, sock) for sock in opened]
        others_are_served(service, 5)
        for each in sent:
            each.result(60)


@contextmanager
def grows_little(service):
    """Holds api to its bound of memory, looked at all the time."""
    before = api_mb(service)
    stop = threading.Event()
    most = [before]

    def watch():
        while not stop.wait(0.05):
            most.append(api_mb(service))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
    assert max(most) - before < MORE_MB, (before, max(most))


def api_mb(service):
    """What the processes of api hold in memory now, in MB."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = (status.parent / "cmdline").read_bytes()
            if b"api.server.gunicorn_conf" in command and str(service.state).encode() in command:
                total += int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) // 1024
        except OSError:  # it has ended meanwhile
            continue
    assert total
    return total

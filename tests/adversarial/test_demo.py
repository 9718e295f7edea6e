"""Hostile clients of the demo's server part: others are served, and nothing of them stays.

The demo is the real process, before a stand-in of the service that really runs the programs of these tests.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.tinirun import Demo, TinirunServer
from tests.support.workers import until
from web.demo.server import CONNECTIONS, CONNECTIONS_EACH, REQUEST_WITHIN_S, SEND_WITHIN_S

SERVED_S = 1.0
JSON = b"Content-Type: application/json\r\n"
BODY = json.dumps({"lang": "bash", "code": "echo hi"}).encode()
POST = b"POST /run HTTP/1.1\r\nHost: x\r\n" + JSON
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
ENDLESS = json.dumps({"lang": "bash", "code": "yes 0123456789012345678901234567890123456789"}).encode()


@pytest.fixture(scope="module")
def tinirun():
    with closing(TinirunServer()) as server:
        yield server


@pytest.fixture(scope="module")
def process(tinirun):
    running = Demo(tinirun.url)
    yield running
    # Nothing that was sent is in the log.
    assert not any("n33dle" in line or "Traceback" in line for line in running.end())


@pytest.fixture
def demo(process, tinirun):
    before = held(process)
    yield process
    deadline = time.monotonic() + REQUEST_WITHIN_S + SEND_WITHIN_S + 10
    while any(now > then for now, then in zip(held(process), before, strict=True)):
        assert time.monotonic() < deadline, f"threads and descriptors: {held(process)}, before {before}"
        time.sleep(0.1)
    assert all(started.wait(10) is not None for started in tinirun.processes)


def held(demo):
    """Return the numbers of threads and of descriptors of the demo."""
    place = Path(f"/proc/{demo.process.pid}")
    return len(os.listdir(place / "task")), len(os.listdir(place / "fd"))


@contextmanager
def many(demo, sent, number, source="127.0.0.9"):
    """Hold so many connections of one address, each of which has sent this."""
    with ExitStack() as undo:
        opened = []
        for _ in range(number):
            sock = socket.create_connection(("127.0.0.1", demo.port), timeout=60, source_address=(source, 0))
            opened.append(undo.enter_context(sock))
            with suppress(OSError):  # there may be no place for it
                sock.sendall(sent)
        yield opened


def answer_of(sock):
    data = b""
    with suppress(OSError):
        while piece := sock.recv(65_536):
            data += piece
    return data


def others_are_served(demo):
    began = time.monotonic()
    assert demo.request("GET", "/", source="127.0.0.4")[0] == 200
    assert time.monotonic() - began < SERVED_S
    assert demo.request("POST", "/run", BODY, source="127.0.0.4")[0] == 200


UNFINISHED = (
    b"",
    b"POST /run HT",
    POST + b"X-n33dle: ",
    POST + b"Content-Length: 100\r\n\r\n{",
    POST + b"Content-Length: 1048576\r\n\r\n" + bytes(500_000),
)


def test_requests_that_do_not_end_or_drip_have_their_seconds(demo):
    """Ten of each kind, from an address each, and one that sends another byte again and again."""
    with ExitStack() as undo:
        began = time.monotonic()
        (dripping,) = undo.enter_context(many(demo, b"GET / HTTP/1.1\r\n", 1))
        opened = [
            undo.enter_context(many(demo, sent, 10, f"127.0.1.{number}"))
            for number, sent in enumerate(UNFINISHED, start=1)
        ]
        others_are_served(demo)
        until_closed(dripping, REQUEST_WITHIN_S + 5)
        answers = {answer_of(sock)[:12] for each in opened for sock in each}
        assert time.monotonic() - began < REQUEST_WITHIN_S + 5
        assert answers == {b"", b"HTTP/1.1 408"}


def test_connections_that_are_reset_make_no_line_of_the_log(demo):
    before = len(demo.lines)
    for sent in (*UNFINISHED, b"GET / HTTP/1.1\r\n\r\n"):
        with many(demo, sent, 10) as opened:
            for sock in opened:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    others_are_served(demo)
    until(lambda: len(demo.lines) > before, 10)
    assert [json.loads(line)["message"] for line in demo.lines[before:]] == ["run"]


def until_closed(sock, seconds):
    """Send a byte again and again until the connection is closed."""
    deadline = time.monotonic() + seconds
    with suppress(OSError):
        while time.monotonic() < deadline:
            sock.sendall(b"X")
            time.sleep(0.2)
        pytest.fail("the connection is not closed")


def test_one_address_does_not_take_all_connections(demo):
    with many(demo, b"GET", 2 * CONNECTIONS) as opened:
        assert [answer_of(sock) for sock in opened[CONNECTIONS_EACH:]] == [b""] * (
            2 * CONNECTIONS - CONNECTIONS_EACH
        )
        others_are_served(demo)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (POST + LENGTH + LENGTH + b"\r\n" + BODY, 411),
        (POST + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY, 411),
        (POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + BODY, 411),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n\r\n0\r\n\r\n", 411),
        (POST + b"\r\n" + BODY, 411),
        (POST + b"Content-Length: +38\r\n\r\n" + BODY, 411),
        (POST + b"Content-Length: 99999999999999999999\r\n\r\n" + BODY, 411),
        (POST + b"Content-Length: 999999999999\r\n\r\n" + BODY, 413),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"<script>n33dle</script>\r\n\r\n", 400),
        (b"GET //evil.example/ HTTP/1.1\r\n\r\n", 404),
        (b"GET /%2e%2e/etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /..\\..\\x HTTP/1.1\r\n\r\n", 404),
    ],
)
def test_malformed_requests_are_answered_without_what_they_hold(demo, tinirun, sent, status):
    before = len(tinirun.requests)
    with many(demo, sent, 1) as (sock,):
        answer = answer_of(sock)
    assert answer[:12] == b"HTTP/1.1 %d" % status, answer
    assert not any(part in answer for part in (b"n33dle", b"evil", b"passwd"))
    assert len(tinirun.requests) == before
    others_are_served(demo)


def test_a_second_request_in_the_first_is_not_served(demo, tinirun):
    before = len(tinirun.requests)
    with many(demo, (POST + LENGTH + b"\r\n" + BODY) * 2, 1) as (sock,):
        answer_of(sock)
    assert len(tinirun.requests) - before <= 1


def test_a_header_of_a_proxy_that_is_not_trusted_changes_no_rate(tinirun):
    demo = Demo(tinirun.url, DEMO_RATE_PER_MINUTE="3")
    try:
        forged = [demo.request("POST", "/run", BODY, {"X-Forwarded-For": f"192.0.2.{n}"})[0] for n in range(5)]
        assert forged == [200, 200, 200, 429, 429]
    finally:
        demo.end()


@pytest.mark.timeout(180)
def test_answers_that_are_not_read(demo, tinirun):
    """A program that prints without end, to a browser that takes nothing: both end, and so does the place."""
    with many(demo, POST + b"Content-Length: %d\r\n\r\n" % len(ENDLESS) + ENDLESS, 2):
        others_are_served(demo)
        deadline = time.monotonic() + SEND_WITHIN_S + 30
        while any(process.poll() is None for process in tinirun.processes):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        others_are_served(demo)

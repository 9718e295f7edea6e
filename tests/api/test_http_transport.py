"""Connections that are large, slow, idle, lingering or chatty, against the real service."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest

BODY = json.dumps({"language": "bash", "code": "echo hi"}).encode()
LIMIT = 16 * 1024 * 1024


def head(service, *lines: str, token=None, path="/v1/runs") -> bytes:
    token = token or service.token
    given = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        *lines,
    ]
    return "\r\n".join([*given, "", ""]).encode()


def connect(service, timeout=30):
    return socket.create_connection((service.host, service.port), timeout=timeout)


def read_reply(connection) -> tuple[int, dict]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece, "the connection ended without an answer"
        data += piece
    top, _, rest = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in top.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(rest) < length:
        rest += connection.recv(65536)
    return int(top.split(b" ")[1]), json.loads(rest[:length])


@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 3 * LIMIT])
def test_a_body_too_large_is_answered_so_that_the_client_reads_it(service, size):
    reply = service.post("/v1/runs", data=b"x" * size)
    assert (reply.status, reply.body["error"]["code"]) == (413, "request_too_large")
    assert str(LIMIT) in reply.body["error"]["message"]


def test_the_largest_body_is_read(service):
    body = BODY[:-1] + b" " * (LIMIT - len(BODY)) + b"}"
    assert service.post("/v1/runs", data=body).body["stdout"] == "hi\n"


@pytest.mark.parametrize("pieces", [1, 40])
def test_chunked_bodies(service, pieces):
    with connect(service) as connection:
        connection.sendall(head(service, "Transfer-Encoding: chunked"))
        step = -(-len(BODY) // pieces)
        for start in range(0, len(BODY), step):
            piece = BODY[start : start + step]
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        status, run = read_reply(connection)
    assert (status, run["stdout"]) == (200, "hi\n")


def test_chunked_bodies_are_bounded(service):
    with connect(service) as connection:
        connection.sendall(head(service, "Transfer-Encoding: chunked"))
        piece = b"x" * 1024 * 1024
        for _ in range(18):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        assert read_reply(connection)[0] == 413


def test_expect_continue(service):
    with connect(service) as connection:
        connection.sendall(head(service, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        assert read_reply(connection)[1]["stdout"] == "hi\n"


def test_many_requests_on_one_connection(service):
    request = head(service, f"Content-Length: {len(BODY)}") + BODY
    with connect(service) as connection:
        for _ in range(5):
            connection.sendall(request)
            assert read_reply(connection)[1]["stdout"] == "hi\n"


def test_a_client_that_sends_its_next_request_early_has_not_left(service):
    slow = json.dumps({"language": "bash", "code": "sleep 1; echo slow"}).encode()
    first = head(service, f"Content-Length: {len(slow)}") + slow
    with connect(service) as connection:
        connection.sendall(first + head(service, f"Content-Length: {len(BODY)}") + BODY)
        assert read_reply(connection)[1]["stdout"] == "slow\n"
        assert read_reply(connection)[1]["stdout"] == "hi\n"


def test_a_refused_body_does_not_become_the_next_request(service):
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(service) as connection:
        connection.sendall(head(service, f"Content-Length: {len(smuggled)}", token="wrong") + smuggled)
        assert read_reply(connection)[0] == 401
        connection.sendall(head(service, f"Content-Length: {len(BODY)}") + BODY)
        assert read_reply(connection)[1]["stdout"] == "hi\n"


def test_idle_connections_hold_no_thread(service):
    idle = [connect(service) for _ in range(300)]
    try:
        began = time.monotonic()
        assert service.get("/healthz", token=None).status == 200
        assert service.run("bash", "echo hi")["stdout"] == "hi\n"
        assert time.monotonic() - began < 5
    finally:
        for connection in idle:
            connection.close()


def test_connections_that_were_answered_hold_no_thread_for_long(service):
    """A thread waits a moment for the next request of some of them; that keeps nobody else from being answered."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as undo:
        kept = [undo.enter_context(connect(service)) for _ in range(300)]
        for pause_s in (0, 0, 1):
            time.sleep(pause_s)
            for connection in kept:
                connection.sendall(request)
            began = time.monotonic()
            for connection in kept:
                assert read_reply(connection)[0] == 200
            assert service.run("bash", "echo hi")["stdout"] == "hi\n"
            assert time.monotonic() - began < 5


def test_lingering_connections_do_not_stop_the_service(service):
    """A client that asks to close and then stays open is waited for, but not by the thread that accepts."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    lingering = [connect(service) for _ in range(8)]
    try:
        for connection in lingering:
            connection.sendall(request)
        time.sleep(0.2)
        for _ in range(5):
            began = time.monotonic()
            assert service.get("/healthz", token=None).status == 200
            assert time.monotonic() - began < 1.5
    finally:
        for connection in lingering:
            connection.close()


def test_slow_headers_are_ended(service):
    with connect(service) as connection:
        ended = threading.Event()

        def trickle():
            try:
                for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100_000:
                    connection.sendall(bytes([byte]))
                    if ended.wait(0.5):
                        return
            except OSError:
                ended.set()

        began = time.monotonic()
        thread = threading.Thread(target=trickle)
        thread.start()
        status, body = read_reply(connection)
        took = time.monotonic() - began
        ended.set()
        thread.join()
    assert (status, body["error"]["code"]) == (408, "request_timeout")
    assert 4 < took < 10


def test_a_stranger_with_a_slow_body_is_answered_soon(service):
    with connect(service) as connection:
        connection.sendall(head(service, "Content-Length: 100000", token="wrong") + b"x")
        began = time.monotonic()
        assert read_reply(connection)[0] == 401
        assert time.monotonic() - began < 6


def test_a_slow_body_is_waited_for(service):
    with connect(service) as connection:
        connection.sendall(head(service, f"Content-Length: {len(BODY)}"))
        for start in range(0, len(BODY), 10):
            connection.sendall(BODY[start : start + 10])
            time.sleep(0.3)
        assert read_reply(connection)[1]["stdout"] == "hi\n"


def test_a_body_that_is_cut(service):
    with connect(service) as connection:
        connection.sendall(head(service, "Content-Length: 1000") + BODY)
        connection.shutdown(socket.SHUT_WR)
        status, body = read_reply(connection)
    assert (status, body["error"]["code"]) == (400, "incomplete_body")


def test_head_and_options(service):
    reply = service.request("HEAD", "/healthz")
    assert (reply.status, reply.raw) == (200, b"")
    reply = service.request("OPTIONS", "/v1/runs")
    assert reply.status == 200
    assert "POST" in reply.headers["allow"]

"""A handler takes its connection over, as one for a WebSocket does; the server goes on without it."""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.apiprocess import Api
from tests.support.processes import opened


@pytest.fixture(scope="module")
def api():
    api = Api({}, app="tests.support.takeover_app:make()").wait()
    yield api
    api.end()


def receive(sock, wanted):
    data = b""
    while len(data) < len(wanted):
        piece = sock.recv(1000)
        assert piece, data
        data += piece
    return data


def test_a_connection_is_the_handlers_from_then_on(api):
    head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    with socket.create_connection((api.service.host, api.service.port), timeout=10) as sock:
        sock.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\nearly")
        assert receive(sock, head + b"early") == head + b"early"
        for _ in range(3):
            time.sleep(0.7)  # longer than the server waits for a next request, and looks at connections
            sock.sendall(b"hello")
            assert receive(sock, b"HELLO") == b"HELLO"
        assert api.service.get("/healthz", token=None).status == 200


def test_what_was_taken_over_is_given_back_when_it_ends(api):
    for _ in range(50):
        with socket.create_connection((api.service.host, api.service.port), timeout=10) as sock:
            sock.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(12) == b"HTTP/1.1 101"
    deadline = time.monotonic() + 10
    (worker,) = api.workers()
    while (open_now := _sockets(worker)) > 20:
        assert time.monotonic() < deadline, open_now
        time.sleep(0.1)


def _sockets(pid):
    return sum(target.startswith("socket:") for target in opened(pid))

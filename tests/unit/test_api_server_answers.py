"""Answers on their way: what goes together, what is left to the loop, and who is given up."""

import socket
import threading
import time
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from api.server import answers as module
from api.server.answers import HttpResponse, Rate, Room, TooSlowError
from api.server.bodies import Budget
from config.pieces import PIECE_BYTES


class Sent:
    """A client that keeps each arrival apart, and takes as much at once as it is told to."""

    def __init__(self, takes=10_000_000):
        self.arrivals = []
        self.takes = takes

    def send(self, data, _flags):
        taken = bytes(data[: self.takes])
        self.takes -= len(taken)
        if not taken:
            raise BlockingIOError
        self.arrivals.append(taken)
        return len(taken)


@pytest.fixture
def answer(tmp_path):
    request = SimpleNamespace(method="GET", version=(1, 1), should_close=lambda: False)
    return HttpResponse(request, Sent(), Config(), Room(tmp_path, Budget(100_000_000, 20_000_000)))


def test_the_head_goes_with_the_body(answer):
    answer.start_response("200 OK", [("Content-Length", "5")])
    answer.write(b"whole")
    answer.close()
    (all_of_it,) = answer.sock._sock.arrivals
    assert all_of_it.startswith(b"HTTP/1.1 200 OK\r\n")
    assert all_of_it.endswith(b"\r\n\r\nwhole")
    assert answer.sent == 5


def test_the_head_of_a_stream_goes_with_its_first_event_and_no_event_waits(answer):
    answer.start_response("200 OK", [])
    answer.write(b"one")
    assert [arrival[-8:] for arrival in answer.sock._sock.arrivals] == [b"3\r\none\r\n"]
    answer.write(b"two")
    answer.close()
    assert b"".join(answer.sock._sock.arrivals[1:]) == b"3\r\ntwo\r\n0\r\n\r\n"


def test_a_large_body_is_not_copied_to_go_with_its_head(answer):
    large = bytes(PIECE_BYTES + 1)
    answer.start_response("200 OK", [("Content-Length", str(len(large)))])
    answer.write(large)
    head, body = answer.sock._sock.arrivals
    assert head.endswith(b"\r\n\r\n")
    assert body == large


def test_an_answer_without_a_body_has_its_head(answer):
    answer.start_response("204 No Content", [])
    answer.close()
    assert answer.sock._sock.arrivals[0].startswith(b"HTTP/1.1 204")


def test_a_body_that_is_no_bytes_leaves_the_head_sent_as_upstream_does(answer):
    answer.start_response("200 OK", [("Content-Length", "1")])
    with pytest.raises(TypeError):
        answer.write("x")
    assert answer.headers_sent
    assert len(answer.sock._sock.arrivals) == 1


LARGE = bytes(range(256)) * 40_000


def test_what_a_client_does_not_take_of_a_whole_answer_is_left_in_a_file(answer):
    answer.outbox._sock.takes = 100_000
    answer.start_response("200 OK", [("Content-Length", str(len(LARGE)))])
    answer.write(LARGE)
    answer.close()
    left = answer.outbox.leaving
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        received = b"".join(answer.outbox._sock.arrivals).partition(b"\r\n\r\n")[2]
        assert len(received) < len(LARGE)
        while not left.send(ours):
            received += theirs.recv(1_000_000)
        ours.close()
        while piece := theirs.recv(1_000_000):
            received += piece
    left.close()
    assert received == LARGE


def test_what_is_left_has_a_budget(answer):
    answer.outbox._sock.takes = 100_000
    answer.outbox._room.budget.take(("",), 19_000_000)
    answer.start_response("200 OK", [("Content-Length", str(len(LARGE)))])
    with pytest.raises(TooSlowError):
        answer.write(LARGE)
    assert answer.outbox._room.budget.used == 19_000_000


def test_what_is_left_of_a_client_that_has_gone(answer):
    answer.outbox._sock.takes = 100_000
    answer.start_response("200 OK", [("Content-Length", str(len(LARGE)))])
    answer.write(LARGE)
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(OSError, match="Broken pipe"):
        answer.outbox.leaving.send(ours)
    answer.outbox.leaving.close()


@pytest.mark.parametrize("length", [len(LARGE), len(LARGE) // 2])
def test_an_answer_that_is_made_while_it_is_sent_is_not_left(tmp_path, length):
    """It may be of any length, and its handler would make more of it than anybody takes."""
    ours, theirs = socket.socketpair()
    request = SimpleNamespace(method="GET", version=(1, 1), should_close=lambda: False)
    answer = HttpResponse(request, ours, Config(), Room(tmp_path, Budget(100_000_000, 20_000_000)))
    received = []
    reader = threading.Thread(target=lambda: received.extend(iter(lambda: theirs.recv(1_000_000), b"")))
    reader.start()
    answer.start_response("200 OK", [("Content-Length", str(length * 2))])
    answer.write(LARGE[:length])
    answer.write(LARGE[:length])
    answer.close()
    assert answer.outbox.leaving is None
    ours.close()
    reader.join(30)
    theirs.close()
    assert b"".join(received).partition(b"\r\n\r\n")[2] == LARGE[:length] * 2


def test_a_client_that_takes_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RATE_WINDOW_S", 0.05)
    ours, theirs = socket.socketpair()
    request = SimpleNamespace(method="GET", version=(1, 1), should_close=lambda: False)
    answer = HttpResponse(request, ours, Config(), Room(tmp_path, Budget(100_000_000, 20_000_000)))
    answer.start_response("200 OK", [])
    with ours, theirs, pytest.raises(TooSlowError):
        answer.write(LARGE)


def test_room_that_the_kernel_makes_is_not_what_a_client_has_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RATE_WINDOW_S", 0.05)
    monkeypatch.setattr(module, "unread_bytes", lambda _: 1)
    ours, theirs = socket.socketpair()
    request = SimpleNamespace(method="GET", version=(1, 1), should_close=lambda: False)
    answer = HttpResponse(request, ours, Config(), Room(tmp_path, Budget(100_000_000, 20_000_000)))
    reader = threading.Thread(target=lambda: all(iter(lambda: theirs.recv(100) and not time.sleep(0.001), False)))
    reader.start()
    answer.start_response("200 OK", [])
    with pytest.raises(TooSlowError):
        answer.write(LARGE)
    ours.close()
    reader.join(30)
    theirs.close()


def test_a_rate_is_of_each_window():
    now = 0.0
    rate = Rate(lambda: now)
    now = module.RATE_WINDOW_S
    assert not rate.is_too_slow()
    rate.note(module.RATE_BYTES)
    now += module.RATE_WINDOW_S
    rate.note(module.RATE_BYTES - 1)
    assert not rate.is_too_slow()
    now += 0.1
    assert rate.is_too_slow()

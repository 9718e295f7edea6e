"""What is changed of gunicorn's own ways."""

from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.http.body import LengthReader
from gunicorn.http.unreader import SocketUnreader

from api.http_worker import Answer, read_bodies_by_pieces
from config.pieces import PIECE_BYTES


class Socket:
    """Gives whatever it is asked for, and remembers how much that was."""

    def __init__(self):
        self.asked = []

    def recv(self, size):
        self.asked.append(size)
        return bytes(size)


def test_a_body_is_read_by_pieces():
    read_bodies_by_pieces()
    sock = Socket()
    body = LengthReader(SocketUnreader(sock), 10 * PIECE_BYTES)
    assert len(body.read(5 * PIECE_BYTES)) == 5 * PIECE_BYTES
    assert set(sock.asked) == {PIECE_BYTES}


class Sent:
    """A client that keeps each arrival apart."""

    def __init__(self):
        self.arrivals = []

    def sendall(self, data):
        if data:
            self.arrivals.append(bytes(data))


@pytest.fixture
def answer():
    request = SimpleNamespace(method="GET", version=(1, 1), should_close=lambda: False)
    return Answer(request, Sent(), Config())


def test_the_head_goes_with_the_body(answer):
    answer.start_response("200 OK", [("Content-Length", "5")])
    answer.write(b"whole")
    answer.close()
    (all_of_it,) = answer.sock.arrivals
    assert all_of_it.startswith(b"HTTP/1.1 200 OK\r\n")
    assert all_of_it.endswith(b"\r\n\r\nwhole")
    assert answer.sent == 5


def test_the_head_of_a_stream_goes_with_its_first_event_and_no_event_waits(answer):
    answer.start_response("200 OK", [])
    answer.write(b"one")
    assert [arrival[-8:] for arrival in answer.sock.arrivals] == [b"3\r\none\r\n"]
    answer.write(b"two")
    answer.close()
    assert b"".join(answer.sock.arrivals[1:]) == b"3\r\ntwo\r\n0\r\n\r\n"


def test_a_large_body_is_not_copied_to_go_with_its_head(answer):
    large = bytes(PIECE_BYTES + 1)
    answer.start_response("200 OK", [("Content-Length", str(len(large)))])
    answer.write(large)
    head, body = answer.sock.arrivals
    assert head.endswith(b"\r\n\r\n")
    assert body == large


def test_an_answer_without_a_body_has_its_head(answer):
    answer.start_response("204 No Content", [])
    answer.close()
    assert answer.sock.arrivals[0].startswith(b"HTTP/1.1 204")


def test_a_body_that_is_no_bytes_leaves_the_head_sent_as_upstream_does(answer):
    answer.start_response("200 OK", [("Content-Length", "1")])
    with pytest.raises(TypeError):
        answer.write("x")
    assert answer.headers_sent
    assert len(answer.sock.arrivals) == 1

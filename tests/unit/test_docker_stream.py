"""Docker's attach framing, taken apart whatever way it arrives."""

from __future__ import annotations

import http.client
import socket
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.engines.docker.daemon import take_over
from sandbox.engines.docker.stream import STDERR, STDOUT, AttachStream


def piece(kind, data):
    return bytes((kind, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    stream = AttachStream(ours)
    stream.settimeout(5)
    yield stream, theirs
    stream.close()
    theirs.close()


def read_all(stream, size):
    found = b""
    while data := stream.recv(size):
        found += data
    return found


@settings(max_examples=60)
@given(
    pieces=st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=300)), max_size=12),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    size=st.integers(1, 400),
    early=st.integers(0, 50),
)
def test_stdout_is_what_it_was_however_it_is_cut(pieces, cuts, size, early):
    wire = b"".join(piece(kind, data) for kind, data in pieces)
    ours, theirs = socket.socketpair()
    stream = AttachStream(ours, wire[:early])
    stream.setblocking(False)
    rest, found, at = wire[early:], b"", 0
    while rest or at == 0:
        cut = cuts[at % len(cuts)]
        theirs.sendall(rest[:cut])
        rest, at = rest[cut:], at + 1
        try:
            while data := stream.recv(size):
                assert len(data) <= size
                found += data
        except BlockingIOError:
            pass
    theirs.close()
    found += read_all(stream, size)
    stream.close()
    assert found == b"".join(data for kind, data in pieces if kind == STDOUT)
    assert stream.words == b"".join(data for kind, data in pieces if kind == STDERR)[-2000:]


def test_nothing_is_taken_from_the_socket_beyond_what_was_asked_for(pair):
    stream, theirs = pair
    theirs.sendall(piece(STDOUT, b"ready") + piece(STDOUT, b"more"))
    assert stream.recv(5) == b"ready"
    # Polling the descriptor must still show that there is more.
    assert socket.socket.recv(stream._socket, 100, socket.MSG_PEEK) == piece(STDOUT, b"more")


@pytest.mark.parametrize(
    "wire",
    [piece(0, b"x"), piece(3, b"x"), piece(255, b"x"), b"\1\0\0\1\0\0\0\1x", b"HTTP/1.1 500 no", b"\1\0\0"],
)
def test_what_is_not_dockers_framing_is_the_end(pair, wire):
    stream, theirs = pair
    theirs.sendall(wire)
    theirs.shutdown(socket.SHUT_WR)
    assert stream.recv(100) == b""


def test_an_end_within_a_piece_is_the_end(pair):
    stream, theirs = pair
    theirs.sendall(piece(STDOUT, b"abcdef")[:-3])
    theirs.close()
    assert read_all(stream, 100) == b"abc"


def test_hanging_up_wakes_a_reader_in_another_thread(pair):
    stream, _ = pair
    stream.settimeout(None)
    got = []
    reader = threading.Thread(target=lambda: got.append(stream.recv(10)))
    reader.start()
    stream.hang_up()
    reader.join(5)
    assert got == [b""]


def test_what_comes_in_one_packet_with_the_headers_is_not_lost():
    """The SDK's own reading of frames loses this one: it lies in the buffer that the headers were read through."""
    ours, daemon = socket.socketpair()
    first, second = piece(STDOUT, b"first"), piece(STDOUT, b"second")
    daemon.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + first)
    answer = http.client.HTTPResponse(ours)
    answer.begin()
    raw = answer.fp.raw  # what the SDK's attach_socket returns
    raw._response = SimpleNamespace(raw=SimpleNamespace(_fp=answer), close=lambda: (answer.close(), ours.close()))

    attached = take_over(raw)
    stream = AttachStream(attached.socket, attached.early)
    stream.settimeout(5)

    assert stream.recv(100) == b"first"
    daemon.sendall(second)
    assert stream.recv(100) == b"second"
    stream.send(b"to the agent")
    assert daemon.recv(100) == b"to the agent"
    stream.close()
    daemon.close()

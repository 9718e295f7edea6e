"""A request on its way: whatever pieces it comes in, it is complete when gunicorn's parser would find it so."""

from __future__ import annotations

import socket
import time

import pytest
from gunicorn.config import Config
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import InvalidHeader, ParseException
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given
from hypothesis import strategies as st

from api.http.body import UNAUTHENTICATED_BODY_BYTES, Body
from api.server import connection as module
from api.server.bodies import IN_MEMORY_BYTES, Budget, CollectedBody, Memory
from api.server.chunks import ChunkScan
from api.server.connection import ClientConnection, Rules, Step

MOST = 1024 * 1024
CLIENT = ("192.0.2.1", 1234)
KNOWN = "known"


def whose(request, client):
    known = any(name == "AUTHORIZATION" for name, _ in request.headers)
    return (KNOWN, True) if known else (client[0], False)


@pytest.fixture
def make(tmp_path):
    made, sockets = [], []

    def make(*, total=64 * MOST, share=8 * MOST):
        ours, theirs = socket.socketpair()
        sockets.extend((ours, theirs))
        rules = Rules(
            config=Config(),
            most_body=MOST,
            whose=whose,
            stranger_bytes=lambda _request: UNAUTHENTICATED_BODY_BYTES,
            is_streamed=lambda request: request.path == "/uploads",
            budget=Budget(total, share),
            memory=Memory(),
            is_proxy=lambda address: address.startswith("10."),
            folder=tmp_path,
        )
        conn = ClientConnection(rules, ours, CLIENT, ("127.0.0.1", 80))
        conn.theirs = theirs
        made.append(conn)
        return conn

    yield make
    for conn in made:
        conn.forget()
    for sock in sockets:
        sock.close()


def head(*lines, path="/v1/runs", method="POST"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def body_of(conn):
    return conn.request.body.read()


AUTH = "Authorization: Bearer x"


def test_a_head_in_single_bytes(make):
    conn = make()
    request = head(method="GET", path="/healthz")
    for at in range(len(request) - 1):
        assert conn.take(request[at : at + 1]) is Step.MORE
    assert conn.take(request[-1:]) is Step.READY
    assert (conn.request.method, conn.request.path, conn.whose, conn.is_known) == (
        "GET", "/healthz", CLIENT[0], False,
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 1000, IN_MEMORY_BYTES, IN_MEMORY_BYTES + 1, MOST])
@pytest.mark.parametrize("piece", [777, 64 * 1024])
def test_a_body_of_known_length(make, size, piece):
    conn = make()
    data = bytes(number % 251 for number in range(1000)) * (size // 1000 + 1)
    sent = head(AUTH, f"Content-Length: {size}") + data[:size] + b"GET /next"
    steps = [conn.take(sent[at : at + piece]) for at in range(0, len(sent) - 9, piece)]
    assert set(steps[:-1]) <= {Step.MORE}
    assert (steps[-1], conn.body) == (Step.READY, Body.WHOLE)
    assert body_of(conn) == data[:size]
    # What has come with its head, in one piece, is not worth counting.
    assert conn.rules.budget.used == (0 if len(sent) - 9 <= piece else size)
    assert conn.ended()
    assert (conn.rules.budget.used, conn.rules.memory.used) == (0, 0)


def test_what_follows_a_request_is_the_next_one(make):
    conn = make()
    first = head(AUTH, "Content-Length: 2") + b"{}"
    second = head(method="GET", path="/second")
    assert conn.take(first + second) is Step.READY
    assert body_of(conn) == b"{}"
    assert conn.ended()
    pending, conn.pending = conn.pending, b""
    assert conn.take(pending) is Step.READY
    assert conn.request.path == "/second"


def test_a_chunked_body_and_what_follows_it(make):
    conn = make()
    sent = head(AUTH, "Transfer-Encoding: chunked") + b"3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\nNEXT"
    for at in range(len(sent) - 5):
        assert conn.take(sent[at : at + 1]) is Step.MORE, at
    assert conn.take(sent[-5:]) is Step.READY
    assert body_of(conn) == b"abcde"
    assert conn.ended()
    assert conn.pending == b"NEXT"


BROKEN = {
    "no line end": b"3\r\nabcXX0\r\n\r\n",
    "no size": b"zz\r\nabc\r\n0\r\n\r\n",
    "a bare LF": b"3\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("is_read", [True, False])
def test_behind_a_malformed_chunk_there_is_no_next_request(make, name, is_read):
    conn = make()
    step = conn.take(head(AUTH, "Transfer-Encoding: chunked") + BROKEN[name] + head(method="GET"))
    assert step is Step.READY
    if is_read:
        with pytest.raises((ParseException, OSError)):
            body_of(conn)
    assert not conn.ended()


@pytest.mark.parametrize("framing", ["Content-Length: {0}", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_thrown_away_and_said_to_be(make, framing):
    conn = make()
    size = 2 * MOST
    assert conn.take(head(AUTH, framing.format(size))) is Step.MORE
    if "chunked" in framing:
        assert conn.take(b"%x\r\n" % size) is Step.MORE
    for _ in range(31):
        assert conn.take(bytes(64 * 1024)) is Step.MORE
    step = conn.take(bytes(64 * 1024))
    if "chunked" in framing:
        step = conn.take(b"\r\n0\r\n\r\n")
    assert (step, conn.body, conn.rules.budget.used) == (Step.READY, Body.OVER, 0)
    assert not conn.ended()


def test_a_body_too_large_that_waits_to_be_asked_for_is_not(make):
    conn = make()
    lines = (AUTH, f"Content-Length: {2 * MOST}", "Expect: 100-continue")
    assert conn.take(head(*lines)) is Step.READY
    assert conn.body is Body.OVER
    conn.theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        conn.theirs.recv(1)


def test_a_body_that_waits_to_be_asked_for_is(make):
    conn = make()
    assert conn.take(head(AUTH, "Content-Length: 2", "Expect: 100-continue")) is Step.MORE
    assert conn.theirs.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert conn.take(b"{}") is Step.READY


def test_of_a_stranger_so_much_is_taken_before_somebody_asks(make):
    conn = make()
    assert conn.take(head(f"Content-Length: {MOST}")) is Step.MORE
    assert conn.take(bytes(UNAUTHENTICATED_BODY_BYTES)) is Step.MORE
    assert conn.take(b"x") is Step.UNIDENTIFIED
    assert conn.known_as(KNOWN) is Step.MORE
    for _ in range(15):
        assert conn.take(bytes(64 * 1024)) is Step.MORE
    assert conn.take(bytes(MOST - 15 * 64 * 1024 - UNAUTHENTICATED_BODY_BYTES - 1)) is Step.READY
    assert len(body_of(conn)) == MOST


def test_of_a_stranger_who_stays_one_no_more_is_taken(make):
    conn = make()
    conn.take(head(f"Content-Length: {MOST}"))
    assert conn.take(bytes(UNAUTHENTICATED_BODY_BYTES + 1)) is Step.UNIDENTIFIED
    assert conn.known_as(None) is Step.READY
    assert conn.body is Body.TOO_LARGE
    assert not conn.ended()


def test_times(make, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    conn = make()
    assert conn.late() is Step.GONE
    conn.take(b"POST")
    assert (conn.deadline, conn.late()) == (now + 5, Step.BAD)
    conn = make()
    conn.take(head("Content-Length: 9"))
    assert (conn.deadline, conn.late()) == (now + 5, Step.UNIDENTIFIED)
    assert conn.known_as(KNOWN) is Step.MORE
    assert (conn.deadline, conn.late(), conn.body) == (now + 60, Step.READY, Body.SLOW)
    conn = make()
    conn.take(head(AUTH, "Content-Length: 9"))
    assert (conn.deadline, conn.late(), conn.body) == (now + 60, Step.READY, Body.SLOW)


def test_a_body_that_ends_early(make):
    conn = make()
    conn.take(head(AUTH, "Content-Length: 9") + b"{}")
    assert (conn.take(b""), conn.body, body_of(conn)) == (Step.READY, Body.CUT, b"{}")
    assert not conn.ended()


@pytest.mark.parametrize("sent", [b"", b"GET / HTT"])
def test_a_client_that_leaves_before_there_is_a_request(make, sent):
    conn = make()
    if sent:
        conn.take(sent)
    assert conn.take(b"") is Step.GONE


BAD = {
    "a request line without an end": b"GET /" + b"x" * 9000,
    "a head without an end": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
    "no request": b"\x16\x03\x01 nonsense\r\n\r\n",
    "two lengths": head("Content-Length: 1", "Content-Length: 2"),
    "a length beside chunks": head("Content-Length: 1", "Transfer-Encoding: chunked"),
    "another coding": head("Transfer-Encoding: gzip"),
    "a length below zero": head("Content-Length: -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request(make, name):
    conn = make()
    steps = [conn.take(BAD[name][at : at + 4096]) for at in range(0, len(BAD[name]), 4096)]
    assert Step.BAD in steps
    assert conn.error is not None


def test_an_upload_is_left_to_its_handler(make):
    conn = make()
    assert conn.take(head(AUTH, "Content-Length: 10", path="/uploads") + b"01234") is Step.READY
    assert conn.is_streamed
    conn.theirs.sendall(b"56789more")
    assert body_of(conn) == b"0123456789"
    assert conn.ended()


def test_an_upload_of_a_stranger_waits_until_it_is_somebodys(make):
    conn = make()
    size = 4 * MOST
    assert conn.take(head(f"Content-Length: {size}", path="/uploads")) is Step.MORE
    assert conn.take(bytes(UNAUTHENTICATED_BODY_BYTES + 1)) is Step.UNIDENTIFIED
    assert not conn.is_streamed
    assert conn.known_as(KNOWN) is Step.READY
    assert conn.is_streamed
    assert len(conn.request.body.read(UNAUTHENTICATED_BODY_BYTES)) == UNAUTHENTICATED_BODY_BYTES
    assert not conn.ended()  # the rest is not read: where the next request begins is not known


def test_bodies_have_a_budget(make):
    conn = make(share=1000)
    conn.take(head(AUTH, "Content-Length: 2000"))
    assert conn.take(bytes(1000)) is Step.MORE
    assert (conn.take(b"x"), conn.body) == (Step.READY, Body.CROWDED)
    conn.forget()
    assert conn.rules.budget.used == 0


def test_a_budget_is_of_each_key_and_each_address():
    budget = Budget(100, 40)
    assert budget.take(("key", "address"), 30)
    assert not budget.take(("other", "address"), 20)
    assert budget.take(("other", "elsewhere"), 20)
    assert not budget.take(("third", "third place"), 60)
    budget.release(("key", "address"), 30)
    assert budget.take(("other again", "address"), 40)
    assert budget.used == 60


@given(st.lists(st.binary(max_size=400_000), max_size=6), st.integers(1, 100_000))
def test_what_is_collected_is_read_again(tmp_path_factory, pieces, step):
    memory = Memory()
    collected = CollectedBody(tmp_path_factory.getbasetemp(), memory)
    for piece in pieces:
        collected.add(piece)
    assert memory.used <= IN_MEMORY_BYTES
    read = b"".join(iter(lambda: collected.read(step), b""))
    assert read == b"".join(pieces)
    collected.close()
    assert memory.used == 0


CHUNK = st.binary(min_size=1, max_size=40)
NOISE = st.lists(
    st.sampled_from([b"1\r\n", b"0\r\n", b"\r\n", b"a;b=c\r\n", b"\n", b"x", b"ff\r\n", b"zz", b"00", b": "]),
    max_size=12,
)


@given(st.lists(CHUNK, max_size=6), st.binary(max_size=20), st.integers(1, 50))
def test_a_chunked_body_ends_where_it_ends(chunks, after, step):
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    scan, sent, taken = ChunkScan(), body + after, 0
    for at in range(0, len(sent), step):
        taken += scan.take(sent[at : at + step])
        if scan.ended:
            break
    assert (scan.ended, taken, scan.size) == (True, len(body), sum(map(len, chunks)))


@given(st.one_of(NOISE.map(b"".join), st.binary(max_size=60)))
@example(b"0\r\n\n1\r\n\r\n")
def test_a_body_that_the_parser_finds_whole_is_not_waited_for(sent):
    scan = ChunkScan()
    taken = scan.take(sent)
    unreader = IterUnreader(iter([sent]))
    if _is_whole(ChunkedReader(_Limits(), unreader)):
        assert scan.ended
        assert sent[taken:] == unreader.take_buffered()


class _Limits:
    limit_request_field_size = 8190
    max_buffer_headers = 65536

    @staticmethod
    def parse_headers(data, *, from_trailer):
        assert from_trailer
        if b"\n" in data.replace(b"\r\n", b""):  # as the parser itself has it: in no name and no value
            raise InvalidHeader("")
        return []


def _is_whole(reader):
    try:
        while reader.read(1024):
            pass
    except (ParseException, OSError):
        return False
    return True

"""The server's end of a WebSocket: what arbitrary bytes, huge messages and every kind of end come to."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from api.websockets.wire import Wire


def wire():
    return Wire(most_text=100, most_bytes=1000)


def client():
    return Connection(ConnectionType.CLIENT)


def header(opcode, size, *, fin=True, mask=b"\0\0\0\0"):
    """The beginning of a client's frame that announces `size` bytes."""
    length = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + struct.pack("!H", size)
        if size < 65536
        else b"\xff" + struct.pack("!Q", size)
    )
    return bytes([(0x80 if fin else 0) | opcode]) + length + mask


def heard(server, peer):
    """What the client reads of what the server has sent."""
    peer.receive_data(bytes(server.outgoing))
    server.outgoing.clear()
    return list(peer.events())


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=200), max_size=10))
def test_arbitrary_bytes_are_messages_or_an_end(pieces):
    server = wire()
    for piece in pieces:
        for message in server.receive(piece):
            assert isinstance(message, str | bytes)
            assert len(message) <= 1000
    assert len(server.outgoing) < 5000
    server.send_bytes(b"x")
    server.close(1000, "over")
    assert server.is_closing


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.text(max_size=50), st.binary(min_size=1, max_size=300)), max_size=8), st.integers(1, 40)
)
def test_messages_arrive_however_they_are_cut(messages, step):
    peer, server = client(), wire()
    data = b"".join(
        peer.send(TextMessage(data=m) if isinstance(m, str) else BytesMessage(data=m)) for m in messages
    )
    found = []
    for at in range(0, len(data), step):
        found += server.receive(data[at : at + step])
    texts = [m for m in found if isinstance(m, str)]
    assert texts == [m for m in messages if isinstance(m, str)]
    assert b"".join(m for m in found if isinstance(m, bytes)) == b"".join(
        m for m in messages if isinstance(m, bytes)
    )
    assert not server.is_closing


@pytest.mark.parametrize(
    "data",
    [
        header(2, 2**40) + bytes(1001),
        header(1, 200) + b"x" * 200,
        header(1, 60, fin=False) + b"x" * 60 + header(0, 60) + b"x" * 60,
        header(2, 900, fin=False) + bytes(900) + header(0, 900, fin=False) + bytes(900),
    ],
    ids=["announced huge", "text", "text in pieces", "bytes in pieces"],
)
def test_a_message_beyond_its_bound_ends_the_websocket(data):
    peer, server = client(), wire()
    for at in range(0, len(data), 64):
        server.receive(data[at : at + 64])
    (end,) = heard(server, peer)
    assert (end.code, server.is_closing) == (1009, True)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bytes([0x82, 0x01, 0x00]), 1002),  # without a mask
        (header(3, 0), 1002),  # no such kind of frame
        (header(0, 0), 1002),  # goes on with nothing
        (bytes([0xC2]) + header(2, 0)[1:], 1002),  # a bit of an extension
        (header(9, 0, fin=False), 1002),  # a ping in pieces
        (header(9, 126) + bytes(126), 1002),  # a ping that is too long
        (header(1, 1) + b"\xff", 1007),
        (header(8, 1) + b"\x03", 1002),
        (header(8, 2) + struct.pack("!H", 999), 1002),
    ],
)
def test_what_breaks_the_protocol_ends_the_websocket(data, code):
    peer, server = client(), wire()
    server.receive(data)
    (end,) = heard(server, peer)
    assert (end.code, server.is_closed) == (code, True)
    assert server.receive(header(2, 1) + b"x") == []


def test_empty_pieces_without_end_are_not_kept():
    server = wire()
    server.receive(header(1, 0, fin=False) + header(0, 0, fin=False) * 10_000)
    assert len(server._text) == 0


def test_a_ping_is_answered_and_a_pong_is_nothing():
    peer, server = client(), wire()
    assert server.receive(peer.send(Ping(payload=b"there?")) + peer.send(Pong())) == []
    (pong,) = heard(server, peer)
    assert bytes(pong.payload) == b"there?"


def test_the_client_closes_first():
    peer, server = client(), wire()
    assert server.receive(peer.send(CloseConnection(code=1000)) + b"behind") == []
    (answer,) = heard(server, peer)
    assert (answer.code, server.is_closing, server.is_closed) == (1000, True, True)


def test_this_end_closes_first_and_takes_no_message_more():
    peer, server = client(), wire()
    server.close(1001, "é" * 100)
    server.close(1000, "again")
    assert server.receive(peer.send(BytesMessage(data=b"late"))) == []
    (end,) = heard(server, peer)
    assert (end.code, end.reason, server.is_closed) == (1001, "é" * 61, False)
    server.receive(peer.send(end.response()))
    assert server.is_closed

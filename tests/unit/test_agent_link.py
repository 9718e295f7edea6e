"""The agent's end of the stream: what is sent arrives whole and in order, however little the socket takes."""

import os
import socket
import threading

import pytest

SENT = [(b"O", b"a line\n"), (b"D", os.urandom(300_000)), (b"E", b""), (b"Z", b"0")]


@pytest.fixture
def agent(fresh_agent):
    import agent.link

    return agent


@pytest.fixture
def ends(agent):
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, theirs:
        yield ours, agent.link.HostStream(theirs.fileno(), theirs.fileno())


def read_all(host, into):
    while data := host.recv(65536):
        into += data


def test_frames_arrive_whole_and_in_order(agent, ends):
    host, link = ends
    arrived = bytearray()
    reader = threading.Thread(target=read_all, args=(host, arrived))
    reader.start()
    for kind, payload in SENT * 3:
        link.send_blocking(kind, payload)
    host.shutdown(socket.SHUT_RD)
    reader.join()
    assert agent.frames.take_frames(arrived) == SENT * 3
    assert arrived == b""


def test_frames_in_one_piece_come_after_what_waits(agent, ends):
    host, link = ends
    link.send(b"D", bytes(agent.link.UNSENT_HIGH))
    last = agent.frames.frame(b"X", b"exit") + agent.frames.frame(b"Z", b"0")
    link.send_bytes(last)
    arrived = bytearray()
    reader = threading.Thread(target=read_all, args=(host, arrived))
    reader.start()
    link.flush_below(1)
    host.shutdown(socket.SHUT_RD)
    reader.join()
    assert arrived.endswith(last)
    assert [kind for kind, _ in agent.frames.take_frames(arrived)] == [b"D", b"X", b"Z"]


def test_what_the_socket_does_not_take_waits(agent, ends):
    host, link = ends
    link.send(b"D", bytes(agent.link.UNSENT_HIGH))
    waiting = len(link.unsent)
    assert 0 < waiting < agent.link.UNSENT_HIGH
    link.send(b"O", b"behind it")
    assert len(link.unsent) > waiting
    assert bytes(link.unsent).endswith(agent.frames.frame(b"O", b"behind it"))
    assert host.recv(1) == b"D"


def test_a_host_that_has_gone_is_told_apart_from_a_full_socket(agent, ends):
    host, link = ends
    host.close()
    with pytest.raises(agent.link.StreamClosed):
        link.send(b"R", b"0")

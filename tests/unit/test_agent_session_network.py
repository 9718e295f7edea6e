"""The proxy of a session that was created without one: started by the agent on a channel, or not at all."""

from __future__ import annotations

import socket

import pytest


class Link:
    """What a server sends with; nothing is unsent."""

    unsent = b""

    def __init__(self):
        self.sent = bytearray()

    def send_bytes(self, data):
        self.sent += data


@pytest.fixture
def address(monkeypatch, fresh_agent):
    """A free port in the place of the proxy's."""
    from agent import network

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = probe.getsockname()
    monkeypatch.setattr(network, "ADDRESS", found)
    return found


@pytest.fixture
def server(address):
    from agent import frames
    from agent.session.server import SessionServer

    made = SessionServer(Link(), -1, frames.pack([frames.pack([b"MODE=x", b"no_proxy=mine"])]))
    yield made
    if made.network is not None:
        made.network.stop()
    made.poller.close()


def start(server):
    """Open a channel as the host does; the frames that are sent."""
    from agent import frames

    pairs = frames.pack([b"HTTP_PROXY=http://127.0.0.1:3128", b"no_proxy=localhost"])
    server.handle(7, frames.OPEN, frames.pack([b"network", pairs]))
    return list(frames.take_channel_frames(server.link.sent))


def test_the_proxy_listens_and_later_tasks_have_its_variables_unless_the_session_has_its_own(server, address):
    from agent import frames

    assert start(server) == [(7, frames.EXIT, frames.pack([b"exit", b"0"])), (7, frames.CLOSED, b"")]
    assert server.env[b"HTTP_PROXY"] == b"http://127.0.0.1:3128"
    assert (server.env[b"MODE"], server.env[b"no_proxy"]) == (b"x", b"mine")
    with socket.create_connection(address, 5):
        watched = {}
        server.network.watch(lambda fd, mask, call: watched.update({fd: call}))
        watched[server.network.listener.fileno()]()
        assert len(server.network.by_channel) == 1


def test_a_port_in_use_is_an_answer_and_the_next_try_may_succeed(server, address):
    from agent import frames

    with socket.create_server(address):
        (channel, kind, payload), closed = start(server)
        assert (channel, kind, closed) == (7, frames.EXIT, (7, frames.CLOSED, b""))
        assert frames.unpack(payload)[0] == b"failed"
        assert (server.network, b"HTTP_PROXY" in server.env) == (None, False)
    assert start(server)[0][2] == frames.pack([b"exit", b"0"])

"""The hello of an agent, read before anything of a user's is in its sandbox."""

from __future__ import annotations

import socket

import pytest

from sandbox import frames
from sandbox.agent_client.readiness import await_ready
from sandbox.engines import EngineError
from sandbox.frames import PROTOCOL_VERSION, Hello, frame

HELLO = PROTOCOL_VERSION.to_bytes(2, "big") + (5).to_bytes(4, "big") + (4).to_bytes(2, "big")
OTHER = (PROTOCOL_VERSION + 1).to_bytes(2, "big")


class FakeSandbox:
    """A stream on which an agent has said something."""

    def __init__(self, said):
        self.stream, self.agent = socket.socketpair()
        self.agent.sendall(said)
        self.is_unready = False

    def report_not_ready(self):
        self.is_unready = True


def refusal(said, *, hang_up=False, timeout_s=5.0):
    """The reason for which an agent that says this is refused."""
    sandbox = FakeSandbox(said)
    with sandbox.stream, sandbox.agent:
        if hang_up:
            sandbox.agent.shutdown(socket.SHUT_WR)
        with pytest.raises(EngineError) as refused:
            await_ready(sandbox, timeout_s)
    assert sandbox.is_unready
    return str(refused.value)


def test_the_hello_is_read_and_nothing_behind_it():
    sandbox = FakeSandbox(frame(frames.READY, HELLO) + b"x")
    with sandbox.stream, sandbox.agent:
        assert await_ready(sandbox) == Hello(PROTOCOL_VERSION, 5, 4)
        assert sandbox.stream.recv(10) == b"x"
    assert not sandbox.is_unready


@pytest.mark.parametrize("hello", [OTHER, OTHER + HELLO[2:], OTHER + bytes(60)])
def test_an_agent_of_another_version_is_refused_by_name(hello):
    assert f"the agent speaks protocol version {PROTOCOL_VERSION + 1}" in refusal(frame(frames.READY, hello))


@pytest.mark.parametrize("landlock", [b"0", b"4", b"12"])
def test_an_agent_from_before_there_were_versions_is_refused_at_once(landlock):
    said = frames.READY + len(landlock).to_bytes(4, "big") + landlock
    assert f"older than protocol version {PROTOCOL_VERSION}" in refusal(said)


@pytest.mark.parametrize(
    "said",
    [
        frame(frames.READY),
        frame(frames.READY, HELLO[:7]),
        frame(frames.READY, HELLO + b"0"),
        frame(frames.READY, HELLO, channel=1),
        frame(frames.READY, bytes(65)),
        frame(frames.STDOUT, HELLO),
        frame(frames.READY, HELLO)[:-1],
        b"",
    ],
)
def test_a_hello_that_is_none_is_refused(said):
    assert "the agent did not get ready" in refusal(said, hang_up=True)


def test_a_templates_child_says_its_error_instead():
    assert refusal(b"!no such file", hang_up=True).endswith("no such file")


def test_a_silent_agent_is_waited_for_no_longer_than_allowed():
    assert "timed out" in refusal(b"", timeout_s=0.05)

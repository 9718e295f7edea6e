"""Make of a ready sandbox a session's: tell its agent, and hand its stream to the hub."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sandbox import frames
from sandbox.engines import EngineError
from sandbox.frames import frame, pack
from sandbox.sessions.stream import SessionStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.engines import Sandbox
    from sandbox.network.relay import NetworkRelay
    from sandbox.sessions.hub import SessionHub

#: The agent answers within a millisecond; no program runs in the sandbox yet, so a slow machine is waited for.
ENTER_TIMEOUT_S = 15.0
#: The nice value of an agent and its keepers: a group full of busy programs must leave them time to kill these.
AGENT_PRIORITY = -20


def enter_session(
    sandbox: Sandbox,
    env: Mapping[bytes, bytes],
    hub: SessionHub,
    on_lost: Callable[[str], None],
    relay: NetworkRelay | None = None,
) -> SessionStream:
    """Turn a waiting sandbox, whose limits are in force, into a session's. Raises EngineError.

    `relay` is for one that may reach hosts: its agent then starts the proxy.
    """
    pairs = [name + b"=" + value for name, value in env.items()]
    stream = sandbox.stream
    deadline = time.monotonic() + ENTER_TIMEOUT_S
    try:
        stream.settimeout(ENTER_TIMEOUT_S)
        first = b"" if relay is None else frame(frames.NETWORK)
        data = memoryview(first + frame(frames.SESSION, pack([pack(pairs)])))
        while data:
            data = data[stream.send(data) :]
        answer = b""
        while len(answer) < frames.HEADER_BYTES and time.monotonic() < deadline:
            piece = stream.recv(frames.HEADER_BYTES - len(answer))
            if not piece:
                break
            answer += piece
    except OSError as e:
        raise EngineError(f"a sandbox did not become a session's: {e}") from e
    if answer != frame(frames.IN_SESSION):
        raise EngineError("a sandbox did not become a session's")
    _prefer_agent(sandbox.pid)
    session = SessionStream(stream, on_change=hub.wake, on_lost=on_lost, relay=relay)
    hub.add(session)
    return session


def _prefer_agent(pid: int) -> None:
    """Give a sandbox's PID 1 precedence over its programs, which set their own nice value back to 0.

    It counts within the sandbox's control group only. A worker without CAP_SYS_NICE leaves it out.
    """
    with suppress(PermissionError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, AGENT_PRIORITY)

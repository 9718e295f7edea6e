"""Make of a ready sandbox a session's: tell its agent, and hand its stream to the hub."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sandbox import frames
from sandbox.engines import EngineError
from sandbox.frames import frame, pack
from sandbox.sessions.stream import SessionStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.engines import Sandbox
    from sandbox.sessions.hub import SessionHub

ENTER_TIMEOUT_S = 5.0


def enter_session(
    sandbox: Sandbox, env: Mapping[bytes, bytes], hub: SessionHub, on_lost: Callable[[str], None]
) -> SessionStream:
    """Turn a waiting sandbox, whose limits are in force, into a session's. Raises EngineError."""
    pairs = [name + b"=" + value for name, value in env.items()]
    stream = sandbox.stream
    deadline = time.monotonic() + ENTER_TIMEOUT_S
    try:
        stream.settimeout(ENTER_TIMEOUT_S)
        data = memoryview(frame(frames.SESSION, pack([pack(pairs)])))
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
    session = SessionStream(stream, on_change=hub.wake, on_lost=on_lost)
    hub.add(session)
    return session

"""Wait until a sandbox's agent is ready, before any data of a user enters the sandbox."""

from __future__ import annotations

import contextlib
import select

from sandbox import frames
from sandbox.engines import EngineError, Sandbox
from sandbox.frames import Hello, ProtocolError

READY_TIMEOUT_S = 15.0
#: First byte of the error message of a template's failed child (runners/agent/template.py).
FAILED = b"!"
MAX_WORDS_BYTES = 400
#: Before protocol version 1 a header had no channel id, and READY one to three bytes of payload.
UNVERSIONED_HEADER_BYTES = 5


def await_ready(sandbox: Sandbox, timeout_s: float = READY_TIMEOUT_S) -> Hello:
    """Wait for the agent's READY and return the hello in it.

    Nothing of a user's is in the sandbox yet, so it can be believed. Raises EngineError if it does not come,
    anything else does, or the agent has another protocol version.
    """
    sandbox.stream.settimeout(timeout_s)
    try:
        return _read_hello(sandbox)
    except (OSError, ProtocolError, EngineError) as e:
        sandbox.report_not_ready()
        if isinstance(e, EngineError):
            raise
        raise EngineError(f"the agent did not get ready: {e}") from e


def _read_hello(sandbox: Sandbox) -> Hello:
    head = _exactly(sandbox, UNVERSIONED_HEADER_BYTES)
    if head[:1] == FAILED:  # of a template's child: its error as text, instead of a frame
        raise EngineError(f"the agent did not get ready: {_words(sandbox, head[1:])}")
    if head[:1] != frames.READY:
        raise EngineError("the agent did not get ready")
    if head[-1]:  # the last byte of a length then; zero now. An image of another's making may have an older agent
        raise ProtocolError(
            f"the agent is older than protocol version {frames.PROTOCOL_VERSION}: rebuild its image"
        )
    head += _exactly(sandbox, frames.HEADER_BYTES - len(head))
    _, channel, length = frames.parse_header(head)
    if channel != frames.RUN_CHANNEL or length > frames.FROM_AGENT[frames.READY[0]]:
        raise EngineError("the agent did not get ready")
    return frames.parse_hello(_exactly(sandbox, length))


def _words(sandbox: Sandbox, words: bytes) -> str:
    """Return the rest of an error's text: all that comes before the stream ends, up to MAX_WORDS_BYTES."""
    with contextlib.suppress(OSError):
        while len(words) < MAX_WORDS_BYTES and (piece := sandbox.stream.recv(MAX_WORDS_BYTES)):
            words += piece
    return words[:MAX_WORDS_BYTES].decode("utf-8", "replace")


def _exactly(sandbox: Sandbox, size: int) -> bytes:
    """Read so many bytes and none beyond them. Raises EngineError at the end of the stream."""
    got = b""
    while len(got) < size:
        piece = sandbox.stream.recv(size - len(got))
        if not piece:
            raise EngineError("the agent did not get ready")
        got += piece
    return got


def is_waiting(sandbox: Sandbox) -> bool:
    """Return whether a warm sandbox is still usable: its agent has sent nothing more and is connected."""
    poller = select.poll()
    poller.register(sandbox.stream, select.POLLIN)
    return not poller.poll(0)

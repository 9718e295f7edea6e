"""Whether a sandbox's agent is ready for a job, before any of a user's is in it."""

from __future__ import annotations

import contextlib
import select

from sandbox import frames
from sandbox.engines import EngineError, Sandbox
from sandbox.frames import ProtocolError

READY_TIMEOUT_S = 15.0
#: How a template's child begins what it has to say about its own failure (runners/agent/template.py).
FAILED = b"!"
MAX_WORDS_BYTES = 400


def await_ready(sandbox: Sandbox, timeout_s: float = READY_TIMEOUT_S) -> int:
    """Wait for the agent's `ready`: the version of Landlock that it has put in force, 0 for none.

    Nothing of a user's is in the sandbox yet, so it can be believed. Raises EngineError if it does not come, or
    anything else does.
    """
    sandbox.stream.settimeout(timeout_s)
    try:
        return _heard(sandbox)
    except (OSError, ProtocolError, EngineError) as e:
        sandbox.unready()
        if isinstance(e, EngineError):
            raise
        raise EngineError(f"the agent did not get ready: {e}") from e


def _heard(sandbox: Sandbox) -> int:
    head = _exactly(sandbox, frames.HEADER_BYTES)
    length = int.from_bytes(head[1:], "big")
    if head[:1] == FAILED:  # of a template's child: its error as text, instead of a frame
        raise EngineError(f"the agent did not get ready: {_words(sandbox, head[1:])}")
    if head[:1] != frames.READY or length > frames.FROM_AGENT[frames.READY[0]]:
        raise EngineError("the agent did not get ready")
    said = _exactly(sandbox, length)
    return frames.number(said) if said else 0  # an image of another's making may have an older agent


def _words(sandbox: Sandbox, words: bytes) -> str:
    """Return the rest of an error's text: all that comes before the stream ends, up to MAX_WORDS_BYTES."""
    with contextlib.suppress(OSError):
        while len(words) < MAX_WORDS_BYTES and (piece := sandbox.stream.recv(MAX_WORDS_BYTES)):
            words += piece
    return words[:MAX_WORDS_BYTES].decode("utf-8", "replace")


def _exactly(sandbox: Sandbox, size: int) -> bytes:
    """So many bytes and none that come after them. Raises EngineError at the end of the stream."""
    got = b""
    while len(got) < size:
        piece = sandbox.stream.recv(size - len(got))
        if not piece:
            raise EngineError("the agent did not get ready")
        got += piece
    return got


def is_waiting(sandbox: Sandbox) -> bool:
    """Whether a warm sandbox still waits: it has said nothing more and has not hung up."""
    poller = select.poll()
    poller.register(sandbox.stream, select.POLLIN)
    return not poller.poll(0)

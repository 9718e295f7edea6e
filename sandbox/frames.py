"""The frame protocol, the host's end: what it sends, and a parser that believes nothing.

A frame is one type byte, four bytes of length (big-endian) and the payload. The other end is
`runners/agent/frames.py`; a test holds the two lists together. The agent runs under the same uid as the
program and may be forged by it, so every length is bounded before a byte is kept, only known types pass, and
a violation is ProtocolError: the program's doing, which ends its run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEADER_BYTES = 5
#: Longest payload either way. The agent reads 64 KiB at a time and sends artifacts in 256 KiB pieces.
MAX_PAYLOAD_BYTES = 1 << 20

# Host to agent.
FILE = b"F"
MORE = b"M"
JOB = b"J"
STDIN = b"I"
STDIN_END = b"i"
COMPILE = b"B"
GO = b"G"
KILL = b"K"
COLLECT = b"C"

# Agent to host.
READY = b"R"
STDIN_TAKEN = b"W"
STDOUT = b"O"
STDERR = b"E"
COMPILED = b"P"
EXIT = b"X"
ARTIFACT = b"A"
DATA = b"D"
SKIPPED = b"S"
END = b"Z"

#: The longest payload of each frame an agent may send.
FROM_AGENT: dict[int, int] = {
    READY[0]: 3,
    STDIN_TAKEN[0]: 10,
    STDOUT[0]: 65_536,
    STDERR[0]: 65_536,
    COMPILED[0]: 64,
    EXIT[0]: 64,
    ARTIFACT[0]: 4_096 + 32,
    DATA[0]: 262_144,
    SKIPPED[0]: 4_096 + 64,
    END[0]: 10,
}


class ProtocolError(Exception):
    """The sandbox sent what an honest agent never sends."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: `kind` is a single byte."""

    kind: bytes
    payload: bytes


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame as bytes, for the agent."""
    return kind + len(payload).to_bytes(4, "big") + payload


def frames_of(kind: bytes, more: bytes, head: bytes, content: bytes) -> Iterator[bytes]:
    """`head` and the first piece of `content` as one packed frame, the rest as `more` frames."""
    first = MAX_PAYLOAD_BYTES - len(head) - 16
    yield frame(kind, pack([head, content[:first]]))
    for at in range(first, len(content), MAX_PAYLOAD_BYTES):
        yield frame(more, content[at : at + MAX_PAYLOAD_BYTES])


def pack(parts: Iterable[bytes]) -> bytes:
    """A list of byte strings as one: each preceded by its length in four bytes."""
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def unpack(data: bytes, count: int) -> list[bytes]:
    """The `count` strings that an agent packed. Raises ProtocolError on anything else."""
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if at + 4 > len(data) or end > len(data) or len(parts) == count:
            raise ProtocolError("a packed list does not add up")
        parts.append(data[at + 4 : end])
        at = end
    if len(parts) != count:
        raise ProtocolError("a packed list is short")
    return parts


def number(data: bytes, maximum: int = 2**31) -> int:
    """A plain decimal number of at most ten digits. Raises ProtocolError on anything else."""
    if not (0 < len(data) <= 10 and data.isdigit() and data.isascii()):
        raise ProtocolError("a number is not one")
    value = int(data)
    if value > maximum:
        raise ProtocolError("a number is out of bounds")
    return value


class FrameParser:
    """Turns bytes from a sandbox into frames, holding at most one frame's worth of them."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has not come in full."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises ProtocolError on an unknown type or excessive length."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= HEADER_BYTES:
            limit = FROM_AGENT.get(buffer[at])
            length = int.from_bytes(buffer[at + 1 : at + HEADER_BYTES], "big")
            if limit is None or length > limit:
                raise ProtocolError("a frame of unknown type" if limit is None else "a frame is too long")
            end = at + HEADER_BYTES + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:  # or it would be copied twice
                frames.append(Frame(bytes(view[at : at + 1]), bytes(view[at + HEADER_BYTES : end])))
            at = end
        del buffer[:at]
        return frames

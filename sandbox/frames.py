"""The frame protocol, the host's end: what it sends, and a parser that believes nothing.

A frame is one type byte, two bytes of channel id, four bytes of length (big-endian) and the payload. The other
end is `runners/agent/frames.py`; a test holds the two lists together. The agent runs under the same uid as the
program and may be forged by it, so every length is bounded before a byte is kept, only known types on open
channels pass, and a violation is ProtocolError: the program's doing, which ends its run.

The first frame of an agent is READY. Its payload is the hello: protocol version, capabilities and Landlock ABI.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

#: Increase it with every change of the frames or their payloads: host and agent must have the same.
PROTOCOL_VERSION = 6
_HEADER = struct.Struct(">BHI")
HEADER_BYTES = _HEADER.size
#: The channel of a single-use run, the only one that is open until the sandbox becomes a session's.
RUN_CHANNEL = 0
#: The bytes of output that a new channel of a session may send before the host has granted more (CREDIT).
INITIAL_CREDIT = 256 * 1024
#: The channels from here on are connections of the proxy, which the agent opens.
FIRST_NETWORK_CHANNEL = 0x8000
#: Protocol version, capabilities, Landlock ABI.
_HELLO = struct.Struct(">HIH")
_VERSION = struct.Struct(">H")
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
SESSION = b"N"
OPEN = b"o"
CREDIT = b"c"
NETWORK = b"e"
SIGNAL = b"s"
RESIZE = b"z"

# Agent to host.
READY = b"R"
STDIN_TAKEN = b"W"
STDOUT = b"O"
STDERR = b"E"
REPLY = b"V"
COMPILED = b"P"
EXIT = b"X"
ARTIFACT = b"A"
DATA = b"D"
SKIPPED = b"S"
END = b"Z"
IN_SESSION = b"Y"
STARTED = b"T"
CONNECTED = b"L"
DATA_END = b"U"
CLOSED = b"Q"

#: The longest payload of each frame an agent may send in a single-use run.
FROM_AGENT: dict[int, int] = {
    READY[0]: 64,  # more than a hello of this version: the version of a longer one can still be read
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
#: The same in a session, after IN_SESSION.
FROM_SESSION: dict[int, int] = {
    STDIN_TAKEN[0]: 10,
    STDOUT[0]: 65_536,
    STDERR[0]: 65_536,
    REPLY[0]: 65_536,
    STARTED[0]: 10,
    EXIT[0]: 512,
    CLOSED[0]: 0,
}
#: The same on the channels of the proxy's connections, where there is a proxy.
FROM_NETWORK: dict[int, int] = {
    CONNECTED[0]: 0,
    STDOUT[0]: 65_536,
    DATA_END[0]: 0,
    STDIN_TAKEN[0]: 10,
    CLOSED[0]: 0,
}


class ProtocolError(Exception):
    """The sandbox sent what an honest agent never sends."""


class Frame(NamedTuple):
    """One frame: `kind` is a single byte. A tuple, because one is made for every frame of every run."""

    kind: bytes
    payload: bytes
    channel: int = RUN_CHANNEL


@dataclass(frozen=True, slots=True)
class Hello:
    """The contents of READY. `capabilities` is a bit set; no bit has a meaning yet."""

    protocol_version: int
    capabilities: int
    #: The version of Landlock that the agent has enabled, 0 for none.
    landlock_abi: int


def frame(kind: bytes, payload: bytes = b"", channel: int = RUN_CHANNEL) -> bytes:
    """Encode one frame for the agent."""
    return _HEADER.pack(kind[0], channel, len(payload)) + payload


def parse_header(header: bytes) -> tuple[int, int, int]:
    """Split HEADER_BYTES bytes into kind, channel id and length. Checks nothing."""
    kind, channel, length = _HEADER.unpack(header)
    return kind, channel, length


def parse_hello(payload: bytes) -> Hello:
    """Read the payload of READY. Raises ProtocolError for another protocol version or a malformed hello.

    The version is checked first: the rest of the hello may have another form in another version.
    """
    if len(payload) < _VERSION.size:
        raise ProtocolError("the agent's hello is too short")
    (version,) = _VERSION.unpack_from(payload)
    if version != PROTOCOL_VERSION:
        raise ProtocolError(f"the agent speaks protocol version {version}, this host speaks {PROTOCOL_VERSION}")
    if len(payload) != _HELLO.size:
        raise ProtocolError(f"the agent's hello has {len(payload)} bytes instead of {_HELLO.size}")
    return Hello(*_HELLO.unpack(payload))


def frames_of(kind: bytes, more: bytes, head: bytes, content: bytes) -> Iterator[bytes]:
    """Yield `head` and the first piece of `content` as one packed frame, the rest as `more` frames."""
    first = MAX_PAYLOAD_BYTES - len(head) - 16
    yield frame(kind, pack([head, content[:first]]))
    for at in range(first, len(content), MAX_PAYLOAD_BYTES):
        yield frame(more, content[at : at + MAX_PAYLOAD_BYTES])


def pack(parts: Iterable[bytes]) -> bytes:
    """Encode a list of byte strings: each preceded by its length in four bytes."""
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def unpack(data: bytes, count: int) -> list[bytes]:
    """Decode `count` strings that an agent packed. Raises ProtocolError on anything else."""
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
    """Parse a plain decimal number of at most ten digits. Raises ProtocolError on anything else."""
    if not (0 < len(data) <= 10 and data.isdigit() and data.isascii()):
        raise ProtocolError("a number is not one")
    value = int(data)
    if value > maximum:
        raise ProtocolError("a number is out of bounds")
    return value


class FrameParser:
    """Turns bytes from a sandbox into frames, holding at most one frame's worth of them."""

    __slots__ = ("_buffer", "_has_network", "_in_session", "_longest")

    def __init__(self, *, in_session: bool = False, has_network: bool = False) -> None:
        """`in_session` is for the frames of a session: on any channel, and of its kinds. `has_network` is for those
        of the proxy's connections besides.
        """
        self._has_network = has_network
        self._buffer = bytearray()
        self._in_session = in_session
        self._longest = FROM_SESSION if in_session else FROM_AGENT

    def expect_network(self) -> None:
        """Let frames of the proxy's connections through from now on."""
        self._has_network = True

    @property
    def pending_bytes(self) -> int:
        """Return the bytes of a frame that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises ProtocolError on an unknown type, a channel that is not open, or excessive length. Which channels of
        a session are open is for the caller to check.
        """
        buffer, longest, in_session = self._buffer, self._longest, self._in_session
        buffer += data
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= HEADER_BYTES:
            kind, channel, length = _HEADER.unpack_from(buffer, at)
            if channel >= FIRST_NETWORK_CHANNEL and self._has_network:
                limit = FROM_NETWORK.get(kind)
            elif channel == RUN_CHANNEL or in_session:
                limit = longest.get(kind)
            else:
                raise ProtocolError(f"a frame on channel {channel}, which is not open")
            if limit is None:
                raise ProtocolError("a frame of unknown type")
            if length > limit:
                raise ProtocolError("a frame is too long")
            end = at + HEADER_BYTES + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:  # or it would be copied twice
                frames.append(Frame(bytes(view[at : at + 1]), bytes(view[at + HEADER_BYTES : end]), channel))
            at = end
        del buffer[:at]
        return frames

"""The frames of a connection from api to a worker that is attached to a process: behind its first lines of JSON.

A frame is a byte of kind, four bytes of length (big-endian) and the payload. Both ends are this service's own, and
each checks what the other sends.
"""

from __future__ import annotations

import json
from typing import NamedTuple

#: The longest payload. Longer output or input goes in several frames.
MAX_PAYLOAD_BYTES = 64 * 1024
HEADER_BYTES = 5

# To the worker.
INPUT = b"I"
INPUT_END = b"E"
RESIZE = b"Z"  # b"COLS ROWS"
SIGNAL = b"S"  # decimal

# From the worker.
STDOUT = b"1"
STDERR = b"2"
TEXT = b"T"  # a message to the client, as JSON
CLOSE = b"C"  # two bytes of a WebSocket's close code, then the reason

TO_WORKER = frozenset({INPUT, INPUT_END, RESIZE, SIGNAL})
FROM_WORKER = frozenset({STDOUT, STDERR, TEXT, CLOSE})


class AttachBroken(Exception):
    """The other end sent what is no frame of this protocol."""


class AttachFrame(NamedTuple):
    """One frame."""

    kind: bytes
    payload: bytes


def encode(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one frame, or of a long payload several."""
    if len(payload) <= MAX_PAYLOAD_BYTES:
        return kind + len(payload).to_bytes(4, "big") + payload
    pieces = [payload[at : at + MAX_PAYLOAD_BYTES] for at in range(0, len(payload), MAX_PAYLOAD_BYTES)]
    return b"".join([encode(kind, piece) for piece in pieces])


def encode_text(message: dict[str, object]) -> bytes:
    """Return the frame of a message to the client."""
    return encode(TEXT, json.dumps(message).encode())


def encode_close(code: int, reason: str) -> bytes:
    """Return the frame that ends the WebSocket."""
    return encode(CLOSE, code.to_bytes(2, "big") + reason.encode())


def decode_close(payload: bytes) -> tuple[int, str]:
    """Return the close code and the reason. Raises AttachBroken."""
    if len(payload) < 2:
        raise AttachBroken("an end without a code")
    return int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")


class AttachParser:
    """Takes bytes as they come and yields the frames of the given kinds."""

    def __init__(self, kinds: frozenset[bytes]) -> None:
        self._kinds = kinds
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[AttachFrame]:
        """Return the frames that are complete with these bytes. Raises AttachBroken."""
        self._buffer += data
        found = []
        at = 0
        while len(self._buffer) - at >= HEADER_BYTES:
            kind = bytes(self._buffer[at : at + 1])
            size = int.from_bytes(self._buffer[at + 1 : at + HEADER_BYTES], "big")
            if kind not in self._kinds:
                raise AttachBroken("a frame of an unknown kind")
            if size > MAX_PAYLOAD_BYTES:
                raise AttachBroken("a frame is too long")
            end = at + HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            found.append(AttachFrame(kind, bytes(self._buffer[at + HEADER_BYTES : end])))
            at = end
        del self._buffer[:at]
        return found

"""The messages of conversations: a line of JSON, and behind it the bytes that are carried.

Kinds, by direction. From api to worker: `open` begins a conversation. Both ways: `data` carries bytes, and with
`fin` says that no more will come; `credit` says how many were taken; `resume` asks for what was sent behind
`consumed`, and is answered by `resumed` or `unknown`. From worker to api: `late` and `newer` say why a conversation
was not begun. `echo` goes from a process to itself, `hello` and `bye` to all on the other side
(`transport.endpoint`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

#: A message of a newer version is not understood: it is sent back as `newer`.
VERSION = 1
#: Bytes of one message: a whole window and the line before it.
MAX_MESSAGE_BYTES = 1024 * 1024
KINDS = frozenset(
    {"open", "data", "credit", "resume", "resumed", "unknown", "late", "newer", "echo", "hello", "bye"}
)

_ID = re.compile(r"[A-Za-z0-9_-]{0,64}")
_QUEUE = re.compile(r"[A-Za-z0-9._-]{0,200}")


class MalformedMessage(Exception):
    """A message that none of ours has sent."""


class NewerMessage(Exception):
    """A message of a version that this process does not understand, and where it came from."""

    def __init__(self, version: int, conversation: str, reply_to: str) -> None:
        super().__init__(f"version {version}; this process understands {VERSION}")
        self.conversation = conversation
        self.reply_to = reply_to


@dataclass(frozen=True, slots=True)
class WireFrame:
    """One message. `offset` is the number of the payload's first byte in its direction."""

    kind: str
    conversation: str = ""
    #: The queue of the sender, and its name among its kind.
    reply_to: str = ""
    sender: str = ""
    offset: int = 0
    #: The bytes of the other direction that the sender has taken.
    consumed: int = 0
    is_last: bool = False
    #: The receiver's clock in milliseconds since the epoch, from which on this must not be begun; 0: at any time.
    not_after_ms: int = 0
    #: For `hello`: facts of the sender.
    facts: dict[str, Any] | None = None
    payload: bytes = b""


def encode(frame: WireFrame) -> bytes:
    """Return the message of a frame."""
    fields = {
        "c": frame.conversation,
        "r": frame.reply_to,
        "s": frame.sender,
        "o": frame.offset,
        "k": frame.consumed,
        "f": frame.is_last,
        "n": frame.not_after_ms,
        "x": frame.facts,
    }
    head = {"v": VERSION, "t": frame.kind} | {short: value for short, value in fields.items() if value}
    return orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE) + frame.payload


def decode(body: bytes) -> WireFrame:
    """Return the frame of a message. Raises MalformedMessage, or NewerMessage."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"it has {len(body)} bytes; at most {MAX_MESSAGE_BYTES} are sent")
    line, newline, payload = body.partition(b"\n")
    try:
        head = orjson.loads(line) if newline else None
    except ValueError as e:
        raise MalformedMessage("its first line is not JSON") from e
    if not isinstance(head, dict):
        raise MalformedMessage("its first line is not an object")
    conversation, reply_to, sender = _text(head, "c", _ID), _text(head, "r", _QUEUE), _text(head, "s", _ID)
    version = head.get("v")
    if type(version) is not int or version < 1:
        raise MalformedMessage("it has no version")
    if version > VERSION:
        raise NewerMessage(version, conversation, reply_to)
    kind, facts, is_last = head.get("t"), head.get("x"), head.get("f", False)
    if kind not in KINDS or not (facts is None or isinstance(facts, dict)) or not isinstance(is_last, bool):
        raise MalformedMessage("it is of no kind that is agreed on")
    return WireFrame(
        kind,
        conversation,
        reply_to,
        sender,
        _number(head, "o"),
        _number(head, "k"),
        is_last,
        _number(head, "n"),
        facts,
        payload,
    )


def _text(head: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = head.get(name, "")
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MalformedMessage(f"its field {name} is not a name")
    return value


def _number(head: dict[str, Any], name: str) -> int:
    value = head.get(name, 0)
    if type(value) is not int or not 0 <= value < 2**53:
        raise MalformedMessage(f"its field {name} is not a number")
    return value

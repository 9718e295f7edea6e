"""Filtering of untrusted output for a live terminal: it may draw, and nothing else.

Sequences that carry a string are left out (OSC, DCS, APC, PM, SOS): with them a program could write to the
clipboard (OSC 52), set the title, make links whose text is another's address (OSC 8), or have the terminal answer
with text of its choosing.
"""

from __future__ import annotations

import codecs
from enum import Enum, auto

ESC = "\x1b"
#: Characters that begin a string after ESC, and the same as one character; of bytes that are not UTF-8 too.
_BEGINS = frozenset("PX]^_")
_BEGINS_ALONE = frozenset("\x90\x98\x9d\x9e\x9f\udc90\udc98\udc9d\udc9e\udc9f")
#: Characters that end it: BEL, ST, and those that abort any sequence.
_ENDS = frozenset("\x07\x9c\udc9c\x18\x1a")
#: A longer string is one without an end: what follows is shown as text.
_MOST = 64 * 1024


class _At(Enum):
    TEXT = auto()
    ESCAPE = auto()
    STRING = auto()
    STRING_ESCAPE = auto()


class EscapeFilter:
    """Takes output as it comes, and returns what a terminal may have of it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._at = _At.TEXT
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Return the part of these bytes, and of those before, that may be written now."""
        text = self._decoder.decode(data)
        if self._at is _At.TEXT and ESC not in text and _BEGINS_ALONE.isdisjoint(text):
            return text.encode("utf-8", "surrogateescape")
        return "".join([self._take(letter) for letter in text]).encode("utf-8", "surrogateescape")

    def _take(self, letter: str) -> str:
        if self._at in (_At.STRING, _At.STRING_ESCAPE):
            return self._in_string(letter)
        held = ESC if self._at is _At.ESCAPE else ""
        self._at = _At.TEXT
        if letter in _BEGINS_ALONE or (held and letter in _BEGINS):
            self._at, self._size = _At.STRING, 0
            return ""
        if letter == ESC:
            self._at = _At.ESCAPE
            return ""
        return held + letter

    def _in_string(self, letter: str) -> str:
        self._size += 1
        if self._at is _At.STRING_ESCAPE:
            self._at = _At.TEXT
            if letter == "\\":
                return ""
            self._at = _At.ESCAPE  # another sequence begins
            return self._take(letter)
        if letter == ESC:
            self._at = _At.STRING_ESCAPE
        elif letter in _ENDS or self._size > _MOST:
            self._at = _At.TEXT
        return ""

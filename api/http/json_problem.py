"""Describe why a body is not JSON: the parser's reason, and its line, column and byte.

Nothing of the body is repeated: it may hold secrets, and a log may keep the answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import orjson

#: A reason of the parser that can be repeated: its own words, without a text of unknown length.
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9 ,.:'(){}\[\]\\/_-]{0,119}")
_UNKNOWN_REASON = "syntax error"
#: The bytes at the position of a mistake that is common, and a sentence about it.
_HINTS = (
    (b"NaN", "NaN is not JSON: use null or leave the field out"),
    (b"Infinity", "Infinity is not JSON: use null or leave the field out"),
    (b"-Infinity", "Infinity is not JSON: use null or leave the field out"),
    (b"'", "names and strings take double quotes"),
    (b"//", "JSON has no comments"),
    (b"/*", "JSON has no comments"),
    (b"None", "write null instead of None"),
    (b"True", "write true in lower case"),
    (b"False", "write false in lower case"),
)
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def problem(data: bytes, error: orjson.JSONDecodeError) -> str:
    """Return one sentence with the parser's reason and the position, counted from 1; bytes are counted from 0."""
    if data.startswith(_MARKS):
        return _sentence("is not valid JSON: it must be UTF-8 without a byte order mark", 1, 1, 0)
    if not error.doc:
        return _encoding_problem(data)
    line, column = error.lineno, error.colno
    offset = error.pos if data.isascii() else len(error.doc[: error.pos].encode())
    reason = error.msg[:1].lower() + error.msg[1:]
    if "depth" in reason or "recursion" in reason:
        return _sentence("is nested too deep", line, column, offset)
    if _REASON.fullmatch(reason) is None:
        reason = _UNKNOWN_REASON
    hint = next((f"; {words}" for text, words in _HINTS if data.startswith(text, offset)), "")
    return _sentence(f"is not valid JSON: {reason}{hint}", line, column, offset)


def _encoding_problem(data: bytes) -> str:
    """Return the sentence for a body that is not UTF-8; its column counts the characters before that byte."""
    try:
        data.decode()
    except UnicodeDecodeError as e:
        before = data[: e.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        return _sentence("is not valid JSON: a byte is not UTF-8", line, column, e.start)
    return _sentence("is not valid JSON: it is empty", 1, 1, 0)


def _sentence(what: str, line: int, column: int, offset: int) -> str:
    return f"The body {what} (line {line}, column {column}, byte {offset})."

"""The Range header: one range of bytes, or none (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII | re.IGNORECASE)
MAX_HEADER_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes from `offset`, at least one."""

    offset: int
    length: int

    def content_range(self, size: int) -> str:
        """Return the value of `Content-Range` in a 206."""
        return f"bytes {self.offset}-{self.offset + self.length - 1}/{size}"


class RangeNotSatisfiable(ValueError):
    """A range that begins beyond the end: a 416."""


def parse(header: str | None, size: int) -> Span | None:
    """Return the part of a body of `size` bytes that is asked for; None for the whole.

    A header that is malformed, in another unit or with more than one range is ignored, as the RFC allows; so is
    every range of an empty body. Raises RangeNotSatisfiable.
    """
    if header is None or size == 0 or len(header) > MAX_HEADER_LENGTH:
        return None
    found = _ONE.fullmatch(header)
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.group(1, 2)
    if first == "":
        length = min(int(last), size)
        if length == 0:
            raise RangeNotSatisfiable
        return Span(size - length, length)
    if last != "" and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeNotSatisfiable
    end = size if last == "" else min(int(last) + 1, size)
    return Span(int(first), end - int(first))

"""Follow the body of one HTTP request, so that nothing behind it is passed on."""

from __future__ import annotations

import re

from egress.http_head import Framing, HeadInvalid

MAX_LINE_BYTES = 8_192
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\x20-\x7e\t]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")


class BodyReader:
    """Takes the bytes behind a head. `is_complete` once the body has ended; what follows it is not taken."""

    def __init__(self, framing: Framing) -> None:
        self._is_chunked = framing.length is None
        #: The bytes that are still due of the body, or of the chunk with the line end behind it.
        self._left = framing.length or 0
        self._line = bytearray()
        self._in_trailer = False
        self._ends_chunk = False
        self.is_complete = framing.length == 0

    def feed(self, data: bytes) -> int:
        """Return how many of the bytes belong to the body. Raises HeadInvalid for chunks that are malformed."""
        if not self._is_chunked:
            taken = min(self._left, len(data))
            self._left -= taken
            self.is_complete = self._left == 0
            return taken
        at = 0
        while at < len(data) and not self.is_complete:
            if self._left:
                at += self._take_content(data, at)
            else:
                at = self._take_line(data, at)
        return at

    def _take_content(self, data: bytes, at: int) -> int:
        taken = min(self._left, len(data) - at)
        self._left -= taken
        return taken

    def _take_line(self, data: bytes, at: int) -> int:
        """Take bytes up to the end of a line, and judge the line when it is complete. Returns where it stopped."""
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._line += data[at:stop]
        if len(self._line) > MAX_LINE_BYTES:
            raise HeadInvalid("a line between chunks is too long")
        if end >= 0:
            line, self._line = bytes(self._line), bytearray()
            if not line.endswith(b"\r\n"):
                raise HeadInvalid("a line between chunks ends in another way than by CR LF")
            self._judge(line[:-2])
        return stop

    def _judge(self, line: bytes) -> None:
        if self._ends_chunk:
            if line:
                raise HeadInvalid("a chunk is longer than it says")
            self._ends_chunk = False
        elif self._in_trailer:
            if not line:
                self.is_complete = True
            elif not _TRAILER.fullmatch(line):
                raise HeadInvalid("a trailer is malformed")
        else:
            found = _SIZE.fullmatch(line)
            if found is None:
                raise HeadInvalid("the size of a chunk is malformed")
            self._left = int(found[1], 16)
            self._in_trailer = self._left == 0
            self._ends_chunk = self._left > 0

"""Find the end of a chunked body without decoding it.

The bytes are decoded later, by the server's own parser, which is strict. This one must only not wait for more than
that parser would: it takes anything invalid as the end, and the parser then reports the error.
"""

from __future__ import annotations

#: A line of a chunk's size with its extensions; the parser takes no longer one.
MOST_LINE = 8190
#: All lines behind the last chunk.
MOST_TRAILERS = 64 * 1024


class ChunkScan:
    """Follows the framing of one body. `size` is how many bytes its chunks have announced."""

    def __init__(self) -> None:
        self.size = 0
        self.ended = False
        self._line = bytearray()
        self._left = 0  # of a chunk and the line end behind it
        self._in_trailers = False
        self._trailers = 0

    def take(self, data: bytes | memoryview) -> int:
        """Return how many of these bytes belong to the body; all of them, unless it has `ended`."""
        view = memoryview(data)
        at = 0
        while at < len(view) and not self.ended:
            if self._left:
                step = min(self._left, len(view) - at)
                self._left -= step
                at += step
            else:
                at += self._take_line(view[at:])
        return at

    def _take_line(self, view: memoryview) -> int:
        """Take the bytes of the line that begins or continues here."""
        most = (MOST_TRAILERS if self._in_trailers else MOST_LINE) + 2 - len(self._line)
        piece = bytes(view[:most])
        end = piece.find(b"\n")
        if end < 0:
            self._line += piece
            if len(piece) == most:
                self.ended = True
            return len(piece)
        self._line += piece[: end + 1]
        line, self._line = bytes(self._line), bytearray()
        if not line.endswith(b"\r\n"):
            self.ended = True
        elif self._in_trailers:
            self._trailers += len(line)
            self.ended = line == b"\r\n" or self._trailers > MOST_TRAILERS
        else:
            self._begin_chunk(line)
        return end + 1

    def _begin_chunk(self, line: bytes) -> None:
        digits = line.partition(b";")[0].strip()
        # At most 2 ** 64: no client sends more, and a long line of digits is not converted.
        if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
            self.ended = True
            return
        size = int(digits, 16)
        if size == 0:
            self._in_trailers = True
            return
        self.size += size
        self._left = size + 2

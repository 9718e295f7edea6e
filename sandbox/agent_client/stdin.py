"""Send a program's input to its agent as fast as the program reads it."""

from __future__ import annotations

from sandbox import frames
from sandbox.frames import ProtocolError, frame

WINDOW_BYTES = 64 * 1024


class StdinWindow:
    """One input; the agent holds no more of it than the window."""

    def __init__(self, data: bytes, *, is_open: bool = False) -> None:
        """`is_open`: more may be added, until `end`."""
        self._left = memoryview(data)
        self._is_open = is_open
        self._unacknowledged = 0
        self._ended = False

    def due(self) -> bytes:
        """Return the frames that may be sent now; after the last input, the one that marks its end."""
        room = WINDOW_BYTES - self._unacknowledged
        piece, self._left = self._left[:room], self._left[room:]
        self._unacknowledged += len(piece)
        due = frame(frames.STDIN, bytes(piece)) if piece else b""
        if not self._left and not self._ended and not self._is_open:
            self._ended = True
            due += frame(frames.STDIN_END)
        return due

    @property
    def room(self) -> int:
        """Return how much may be added, so that little waits here."""
        return max(0, WINDOW_BYTES - len(self._left))

    def add(self, data: bytes) -> None:
        """Add input behind what there is."""
        if self._is_open:
            self._left = memoryview(bytes(self._left) + data)

    def end(self) -> None:
        """Add no more."""
        self._is_open = False

    def taken(self, count: int) -> None:
        """Note that the program has read `count` bytes. Raises ProtocolError if more were read than sent."""
        if count > self._unacknowledged:
            raise ProtocolError("more stdin taken than was sent")
        self._unacknowledged -= count

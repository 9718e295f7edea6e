"""The file with a function's output, as it arrives among the artifacts: kept in memory, never stored as one."""

from __future__ import annotations

from protocol.function import MAX_OUTPUT_BYTES, OUTPUT_NAME
from sandbox.frames import ProtocolError

#: Its path beneath the directory of artifacts.
OUTPUT = OUTPUT_NAME.encode()


class OutputFile:
    """Takes the bytes of an output of at most MAX_OUTPUT_BYTES. Raises ProtocolError for bytes out of place."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_there = False
        #: Bytes that were announced and have not arrived.
        self.missing = 0
        #: True if the program has written more than MAX_OUTPUT_BYTES.
        self.is_too_large = False
        #: The reason why the agent left the file out; empty if it did not.
        self.skipped = ""

    def begin(self, size: int) -> None:
        """Begin the file, of which there is one."""
        if self._is_there:
            raise ProtocolError("a second output")
        self._is_there = True
        self.missing = size
        self.is_too_large = size > MAX_OUTPUT_BYTES

    def data(self, payload: bytes) -> None:
        """Append bytes; those of a file that is too large are dropped."""
        if len(payload) > self.missing:
            raise ProtocolError("bytes of an output that were not announced")
        self.missing -= len(payload)
        if not self.is_too_large:
            self._data += payload

    def whole(self) -> bytes | None:
        """Return the bytes; None if the file is missing, incomplete, too large, or was no regular file."""
        return bytes(self._data) if self._is_there and not self.missing and not self.is_too_large else None

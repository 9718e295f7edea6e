"""Read the layer that a builder sends: entries and content, as `runners/agent/packages/pack.py` writes them.

The bytes come from a sandbox that may have executed code of packages: each number has its bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox import frames
from sandbox.frames import ProtocolError, unpack
from sandbox.layers.entry import MAX_PATH_BYTES, LayerEntry
from sandbox.layers.places import within_places

if TYPE_CHECKING:
    from sandbox.layers.writer import LayerWriter

LENGTH_BYTES = 4
FIELDS = 5
#: Type, mode and size are short; path and target have the longest that the kernel takes.
MAX_FIELDS_BYTES = 2 * MAX_PATH_BYTES + 256
_MAX_SIZE = 1 << 40


class LayerParser:
    """Passes what arrives on to the writer of a layer. Raises ProtocolError, and what the writer does."""

    def __init__(self, writer: LayerWriter, places: tuple[bytes, ...] | None = None) -> None:
        """`places` are the paths that the entries must lie in; None permits every path."""
        self._writer = writer
        self._places = places
        self._held = bytearray()
        self._missing = 0
        self.is_complete = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes, however they are cut."""
        if self.is_complete and data:
            raise ProtocolError("bytes behind the end of a layer")
        self._held += data
        while self._held and not self.is_complete:
            if self._missing:
                self._take_content()
            elif not self._take_entry():
                return
        if self.is_complete and self._held:
            raise ProtocolError("bytes behind the end of a layer")

    def _take_content(self) -> None:
        with memoryview(self._held) as view:
            content = bytes(view[: self._missing])
        del self._held[: len(content)]
        self._missing -= len(content)
        self._writer.data(content)

    def _take_entry(self) -> bool:
        """Take one entry, or the end. Returns False if it is not there yet as a whole."""
        if len(self._held) < LENGTH_BYTES:
            return False
        length = int.from_bytes(self._held[:LENGTH_BYTES], "big")
        if length > MAX_FIELDS_BYTES:
            raise ProtocolError("an entry of a layer is too long")
        end = LENGTH_BYTES + length
        if len(self._held) < end:
            return False
        fields = bytes(self._held[LENGTH_BYTES:end])
        del self._held[:end]
        if not length:
            self.is_complete = True
            return True
        kind, path, mode, size, target = unpack(fields, FIELDS)
        entry = LayerEntry(kind, path, _octal(mode), frames.number(size, _MAX_SIZE), target)
        self._writer.add(entry if self._places is None else within_places(entry, self._places))
        self._missing = entry.size
        return True


def _octal(text: bytes) -> int:
    if not 0 < len(text) <= 4 or not set(text) <= set(b"01234567"):  # 0o7777 has four digits
        raise ProtocolError("a mode of a layer is no octal number")
    return int(text, 8)

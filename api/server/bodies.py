"""Bodies that are collected before anybody works on them, and how much of them there may be at the same time."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

#: Beyond this a body goes to a file.
IN_MEMORY_BYTES = 256 * 1024
#: When all bodies together hold this much memory, further ones go to a file from here on.
ALL_IN_MEMORY_BYTES = 64 * 1024 * 1024
CROWDED_IN_MEMORY_BYTES = 16 * 1024


class Budget:
    """Bytes of which everybody may have a part: so many in all, and so many for each key and each address."""

    def __init__(self, total: int, share: int) -> None:
        self._total, self._share = total, share
        self._lock = threading.Lock()
        self._used = 0
        self._held: Counter[Hashable] = Counter()

    @property
    def used(self) -> int:
        """Return how many bytes are taken."""
        return self._used

    def take(self, whose: Sequence[Hashable], size: int) -> bool:
        """Take `size` bytes for each of `whose`; returns False, and takes nothing, when one has its share."""
        with self._lock:
            if self._used + size > self._total:
                return False
            if any(self._held[one] + size > self._share for one in whose):
                return False
            self._used += size
            for one in whose:
                self._held[one] += size
        return True

    def release(self, whose: Sequence[Hashable], size: int) -> None:
        """Release bytes that were taken."""
        with self._lock:
            self._used -= size
            for one in whose:
                self._held[one] -= size
                if self._held[one] <= 0:
                    del self._held[one]


class Memory:
    """A count of the bytes of bodies in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.used = 0

    def add(self, size: int) -> None:
        """Count so many more, or less."""
        with self._lock:
            self.used += size


class CollectedBody:
    """The bytes of one body: in memory while they are few, in an unlinked file from then on."""

    def __init__(self, folder: Path | None, memory: Memory) -> None:
        """`folder` is where files are made; `memory` counts what all bodies hold in memory."""
        self._folder = folder
        self._memory = memory
        self._buffer: bytearray | None = bytearray()
        self._file: IO[bytes] | None = None
        self._read_at = 0
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Add received bytes. Raises OSError when there is no room for them."""
        self.size += len(data)
        if self._buffer is not None:
            most = IN_MEMORY_BYTES if self._memory.used < ALL_IN_MEMORY_BYTES else CROWDED_IN_MEMORY_BYTES
            if self.size <= most:
                self._memory.add(len(data))
                self._buffer += data
                return
            self._spill()
        assert self._file is not None
        self._file.write(data)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; nothing at the end."""
        if self._file is not None:
            if self._read_at == 0:
                self._file.seek(0)
            piece = self._file.read(size)
        else:
            assert self._buffer is not None
            piece = bytes(self._buffer[self._read_at : self._read_at + size])
        self._read_at += len(piece)
        return piece

    def close(self) -> None:
        """Give everything back."""
        if self._buffer is not None:
            self._memory.add(-len(self._buffer))
            self._buffer = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spill(self) -> None:
        assert self._buffer is not None
        # Unlinked from the beginning: nothing is left behind if the process is killed.
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  # closed by `close`
        buffer, self._buffer = self._buffer, None
        self._memory.add(-len(buffer))
        self._file.write(buffer)

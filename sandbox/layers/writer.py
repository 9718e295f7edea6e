"""The one way for the files of a builder to the host's disk.

A builder has run the code of packages, so each entry is hostile. Everything is made new, beneath one descriptor:
a directory is opened by openat2 without following a link, and an entry is made in it by its last name alone.
Only directories, regular files and symbolic links are made. Links are stored and never followed. The files
belong to the worker's account (root), and have no extended attributes and one name each.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sandbox.frames import ProtocolError
from sandbox.layers.entry import DIRECTORY, FILE, LINK, LayerEntry, checked
from storage import beneath

MAX_LAYER_BYTES = 1 << 30
MAX_LAYER_ENTRIES = 100_000
#: Each entry counts whole blocks: 100 000 files of one byte fill a disk as large ones do.
BLOCK_BYTES = 4_096
#: The mode of a directory while the layer is written, and of the layer's own.
PRIVATE_MODE = 0o700
LAYER_MODE = 0o755

_libc = ctypes.CDLL(None, use_errno=True)


class LayerTooLarge(Exception):
    """The packages need more than a layer may hold; the message names the bound."""


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer in its place: the hash of its whole tree, the bytes that count for it, and its number of entries."""

    sha256: str
    size: int
    entries: int


class LayerWriter:
    """Writes the entries of one layer to a new directory. Use it in a `with`: it removes what is not kept.

    The methods raise ProtocolError where an honest builder would not go, LayerTooLarge, or OSError.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int = MAX_LAYER_BYTES, max_entries: int = MAX_LAYER_ENTRIES
    ) -> None:
        directory.mkdir(mode=PRIVATE_MODE)
        self._directory = directory
        self._root_fd = os.open(directory, beneath.DIRECTORY)
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._size = 0
        self._open: _OpenFile | None = None
        self._digests: dict[bytes, bytes] = {}
        self._modes: dict[bytes, int] = {}
        self._is_kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._discard_file()
        os.close(self._root_fd)
        if not self._is_kept:
            shutil.rmtree(self._directory, ignore_errors=True)

    def add(self, claimed: LayerEntry) -> None:
        """Make an entry; the content of a file follows by `data`."""
        self._end_file()
        entry = checked(claimed)
        self._count(entry)
        if entry.path in self._digests:
            raise ProtocolError("a path of a layer comes twice")
        if entry.folder and entry.folder not in self._modes:
            raise ProtocolError("an entry of a layer comes before its directory")
        folder_fd = self._open_folder(entry.folder)
        try:
            self._make(entry, folder_fd)
        finally:
            os.close(folder_fd)

    def data(self, content: bytes) -> None:
        """Append to the file that was added last."""
        file = self._open
        if file is None or len(content) > file.missing:
            raise ProtocolError("content of a layer that was not announced")
        file.write(content)

    def keep(self, place: Path) -> WrittenLayer:
        """Give directories their modes, flush all to the disk and rename the layer to `place`, a new path."""
        self._end_file()
        # The deepest first: after its own mode a directory may not be passable any more.
        for path, mode in reversed(self._modes.items()):
            folder_fd = self._open_folder(path)
            try:
                os.fchmod(folder_fd, mode)
            finally:
                os.close(folder_fd)
        os.fchmod(self._root_fd, LAYER_MODE)
        if _libc.syncfs(self._root_fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        written = WrittenLayer(self._tree_hash(), self._size, len(self._digests))
        if place.exists():
            raise FileExistsError(f"there is a layer at {place}")
        self._directory.rename(place)
        self._is_kept = True
        return written

    def _count(self, entry: LayerEntry) -> None:
        if len(self._digests) >= self._max_entries:
            raise LayerTooLarge(f"the packages have more than {self._max_entries} files and directories")
        self._size += max(1, -(-entry.size // BLOCK_BYTES)) * BLOCK_BYTES
        if self._size > self._max_bytes:
            raise LayerTooLarge(f"the packages need more than {self._max_bytes} bytes")

    def _make(self, entry: LayerEntry, folder_fd: int) -> None:
        if entry.kind == DIRECTORY:
            os.mkdir(entry.name, PRIVATE_MODE, dir_fd=folder_fd)
            self._modes[entry.path] = entry.mode
            self._digests[entry.path] = _digest(DIRECTORY, entry, b"")
        elif entry.kind == LINK:
            os.symlink(entry.target, entry.name, dir_fd=folder_fd)
            self._digests[entry.path] = _digest(LINK, entry, entry.target)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open = _OpenFile(entry, os.open(entry.name, flags, PRIVATE_MODE, dir_fd=folder_fd))
            # Counted now, so that an empty or unfinished file is no free name.
            self._digests[entry.path] = b""

    def _open_folder(self, path: bytes) -> int:
        return beneath.open_folder(path, self._root_fd) if path else os.dup(self._root_fd)

    def _end_file(self) -> None:
        file = self._open
        if file is None:
            return
        if file.missing:
            raise ProtocolError("a file of a layer is shorter than announced")
        os.fchmod(file.fd, file.entry.mode)
        self._digests[file.entry.path] = _digest(FILE, file.entry, file.sha256.digest())
        self._discard_file()

    def _discard_file(self) -> None:
        file, self._open = self._open, None
        if file is not None:
            os.close(file.fd)

    def _tree_hash(self) -> str:
        whole = hashlib.sha256()
        for path in sorted(self._digests):
            whole.update(self._digests[path])
        return whole.hexdigest()


class _OpenFile:
    """The file that is being written."""

    __slots__ = ("entry", "fd", "missing", "sha256")

    def __init__(self, entry: LayerEntry, fd: int) -> None:
        self.entry = entry
        self.fd = fd
        self.missing = entry.size
        self.sha256 = hashlib.sha256()

    def write(self, content: bytes) -> None:
        self.missing -= len(content)
        self.sha256.update(content)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self.fd, rest) :]


def _digest(kind: bytes, entry: LayerEntry, content: bytes) -> bytes:
    """Return the hash of one entry; each field has its length in front, so that no two entries are one text."""
    found = hashlib.sha256()
    # Linux gives links no mode of their own.
    mode = b"" if kind == LINK else b"%o" % entry.mode
    for field in (kind, entry.path, mode, content):
        found.update(len(field).to_bytes(4, "big") + field)
    return found.digest()

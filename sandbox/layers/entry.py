"""The entries of a layer, as a builder describes them: claims to be checked before a byte is written."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.frames import ProtocolError

DIRECTORY = b"directory"
FILE = b"file"
LINK = b"link"

#: PATH_MAX and NAME_MAX of Linux, less the NUL of the first.
MAX_PATH_BYTES = 4_095
MAX_NAME_BYTES = 255
#: No package nests deeper; a bound here keeps the removal of a layer from recursing without end.
MAX_DEPTH = 100
#: Neither set-user-ID, set-group-ID nor sticky, and nobody but root writes.
MODE_BITS = 0o755


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """A directory, file or symbolic link; `size` is that of a file's content, `target` that of a link."""

    kind: bytes
    path: bytes
    mode: int = MODE_BITS
    size: int = 0
    target: bytes = b""

    @property
    def folder(self) -> bytes:
        """The path of the directory that it lies in; empty for the layer itself."""
        return self.path.rpartition(b"/")[0]

    @property
    def name(self) -> bytes:
        """The last part of its path."""
        return self.path.rpartition(b"/")[2]


def checked(entry: LayerEntry) -> LayerEntry:
    """Return the entry with the bits of its mode that are kept. Raises ProtocolError for one that cannot be."""
    problem = _path_problem(entry.path) or _kind_problem(entry)
    if problem is not None:
        raise ProtocolError(f"an entry of a layer: {problem}")
    return LayerEntry(entry.kind, entry.path, entry.mode & MODE_BITS, entry.size, entry.target)


def _path_problem(path: bytes) -> str | None:
    if not 0 < len(path) <= MAX_PATH_BYTES:
        return f"its path must have 1 to {MAX_PATH_BYTES} bytes"
    if b"\0" in path:
        return "its path has a NUL"
    parts = path.split(b"/")
    if len(parts) > MAX_DEPTH:
        return f"its path must have at most {MAX_DEPTH} parts"
    if any(part in {b"", b".", b".."} for part in parts):
        return "its path must be relative, without empty, . and .. parts"
    if any(len(part) > MAX_NAME_BYTES for part in parts):
        return f"each part of its path must have at most {MAX_NAME_BYTES} bytes"
    return None


def _kind_problem(entry: LayerEntry) -> str | None:
    if entry.kind not in {DIRECTORY, FILE, LINK}:
        return "it must be a directory, file or link"
    if entry.size < 0 or (entry.size and entry.kind != FILE):
        return "a file alone has a size, and none is negative"
    if entry.kind != LINK:
        return "a link alone has a target" if entry.target else None
    if not 0 < len(entry.target) <= MAX_PATH_BYTES or b"\0" in entry.target:
        return f"its target must have 1 to {MAX_PATH_BYTES} bytes, none of them NUL"
    return None

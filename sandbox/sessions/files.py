"""File operations in a session, as the worker asks for them: a report, and for some content in or out."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.frames import ProtocolError
from sandbox.sessions.channel import ChannelEnded, SessionChannel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sandbox.sessions.session import LiveSession

#: Seconds after which an operation that neither reports nor moves a byte is given up.
PATIENCE_S = 30.0
#: The report of an honest agent is smaller.
MAX_REPORT_BYTES = 64 * 1024
LENGTH_BYTES = 4
TYPES = ("file", "directory", "symlink", "other")
CODES = frozenset(
    {
        "file_not_found", "file_not_permitted", "not_a_directory", "not_a_file", "file_exists", "disk_full",
        "invalid_path", "incomplete_body", "invalid_archive", "io_error",
    }
)  # fmt: skip


class FileRefused(Exception):
    """The operation was not done; `code` is one of CODES."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code if code in CODES else "io_error"
        self.message = message[:400] if message.isprintable() else "the operation failed"


class Entry(NamedTuple):
    """A file, directory or link of a sandbox, as its agent describes it: a claim, not a fact of the host."""

    name: bytes
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    target: bytes

    @classmethod
    def parse(cls, parts: list[bytes]) -> Entry:
        """Return the entry in the fields that an agent sends. Raises ProtocolError."""
        if len(parts) != len(cls._fields):
            raise ProtocolError("an entry of another number of fields")
        name, kind, *digits, target = parts
        size, mode, uid, gid, mtime_ns = (_number(text) for text in digits)
        text = kind.decode("ascii", "replace")
        return cls(name[:8192], text if text in TYPES else "other", size, mode & 0o7777, uid, gid, mtime_ns, target)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; names may be any bytes, and are given as text of one character for each."""
        found = self._asdict()
        found["name"] = self.name.decode("latin-1")
        found["target"] = self.target.decode("latin-1")
        return found


class FileOperation:
    """One operation under way. Use it on one thread, and `close` it."""

    def __init__(self, session: LiveSession, name: bytes, *arguments: bytes) -> None:
        """Start it. Raises SessionGone or TooManyChannels."""
        self._channel: SessionChannel = session.stream.start_operation(name, *arguments)
        self._report = bytearray()
        self._content: list[bytes] = []
        self._is_over = False

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send what the operation reads, then its end; no more once it has ended. Raises FileRefused."""
        for piece in pieces:
            if not self._channel.write_all(piece, PATIENCE_S):
                raise FileRefused("io_error", "the file is not written any more")
            while not self._is_over and self._channel.wait(0):
                self._pump(time.monotonic())
            if self._is_over:
                return
        self._channel.end_input()

    def report(self, *, whole: bool) -> list[bytes]:
        """Wait for the report, with `whole` for the end too; its fields. Raises FileRefused, ChannelEnded."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_over and (whole or not self._has_report()):
            if self._pump(deadline):
                deadline = time.monotonic() + PATIENCE_S
        return self._parsed()

    def content(self) -> Iterator[bytes]:
        """Yield what the operation writes. Raises FileRefused if it ends early, and ChannelEnded."""
        while True:
            held, self._content = self._content, []
            yield from held
            if self._content:
                continue
            if self._is_over:
                break
            self._pump(time.monotonic() + PATIENCE_S)
        end = self._channel.end
        if end is None or end.exit_code != 0:
            raise FileRefused("io_error", "the content was cut")

    def close(self) -> None:
        """Give it up if it is not over, and give its channel back."""
        if not self._channel.is_closed:
            self._channel.kill()
        self._channel.close()

    def _pump(self, deadline: float) -> bool:
        """Take what arrives next. Returns whether something did. Raises FileRefused when nothing comes for long."""
        if not self._channel.wait(max(0.0, deadline - time.monotonic())):
            raise FileRefused("io_error", "the operation takes too long")
        for kind, data in self._channel.take():
            if kind == "stdout":
                self._content.append(data)
            elif len(self._report) + len(data) <= MAX_REPORT_BYTES:
                self._report += data
        self._is_over = self._channel.end is not None
        return True

    def _has_report(self) -> bool:
        try:
            return bool(_unpack(bytes(self._report)))
        except ProtocolError:
            return False

    def _parsed(self) -> list[bytes]:
        found = report_of(self._report)
        if found is not None:
            return found
        end = self._channel.end
        if end is not None and end.failed is not None:
            raise FileRefused("io_error", "no more processes can be started in the session")
        raise FileRefused("io_error", "it failed")


@contextmanager
def operation(session: LiveSession, name: bytes, *arguments: bytes) -> Iterator[FileOperation]:
    """Start an operation, and see that it is over at the end."""
    made = FileOperation(session, name, *arguments)
    try:
        yield made
    finally:
        made.close()


def entries(pieces: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries of a `list`, from its content. Raises ProtocolError for what no honest agent sends."""
    lists = PackedLists(MAX_REPORT_BYTES)
    for piece in pieces:
        for packed in lists.feed(piece):
            yield Entry.parse(_unpack(packed))


class PackedLists:
    """Takes apart a stream of lists that each have their length in front; at most one is held."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lists that `data` completes. Raises ProtocolError for one that is too long."""
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= LENGTH_BYTES:
            size = int.from_bytes(buffer[at : at + LENGTH_BYTES], "big")
            if size > self._most_bytes:
                raise ProtocolError("a list is too long")
            end = at + LENGTH_BYTES + size
            if len(buffer) < end:
                break
            yield bytes(buffer[at + LENGTH_BYTES : end])
            at = end
        del buffer[:at]


def report_of(report: bytes | bytearray) -> list[bytes] | None:
    """Return the fields that an operation has reported; None while the report is not whole. Raises FileRefused."""
    try:
        parts = _unpack(bytes(report))
    except ProtocolError:
        return None
    if not parts:
        return None
    if parts[0] == b"ok":
        return parts[1:]
    code, words = parts[1:3] if parts[0] == b"error" and len(parts) == 3 else (b"io_error", b"it failed")
    raise FileRefused(code.decode("ascii", "replace"), words.decode("utf-8", "replace"))


def _unpack(data: bytes) -> list[bytes]:
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")
        if at + LENGTH_BYTES > len(data) or end > len(data):
            raise ProtocolError("a packed list does not add up")
        parts.append(data[at + LENGTH_BYTES : end])
        at = end
    return parts


def _number(text: bytes) -> int:
    if not (0 < len(text) <= 20 and text.isdigit()):
        raise ProtocolError("a number is not one")
    return int(text)


__all__ = ["ChannelEnded", "Entry", "FileOperation", "FileRefused", "entries", "operation"]

"""The bytes of files: there with progress, back with their length and hash checked."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import parse_qsl, urlsplit

from runyard._calls import item
from runyard._retry import RetryPolicy, exchange
from runyard._steps import Call, Chunk, Close, Operation, Pause, Upload
from runyard.errors import ConfigError, ConnectionFailed, DownloadError, PermissionDenied
from runyard.models import Artifact, File

#: Called with the progress of an upload or a download: bytes done, bytes in all.
Progress = Callable[[int, int], None]


class Watched(io.RawIOBase):
    """A file that is being sent and reports its progress, which restarts with every attempt."""

    def __init__(self, source: BinaryIO, progress: Progress | None) -> None:
        self._source = source
        self._progress = progress
        self._start = source.tell()
        self.size = source.seek(0, os.SEEK_END) - self._start
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        if self._progress is not None:
            self._progress(self.tell(), self.size)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            offset += self._start
        return self._source.seek(offset, whence) - self._start

    def tell(self) -> int:
        return self._source.tell() - self._start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: A source of an upload: a file's path, its bytes, or a seekable file that is open for reading bytes.
Source = str | Path | bytes | BinaryIO


@contextmanager
def opened(source: Source, name: str | None, purpose: str | None, progress: Progress | None) -> Iterator[Upload]:
    """Open a source as an Upload until the end of the block. Raises OSError."""
    if isinstance(source, str | Path):
        with Path(source).open("rb") as found:
            yield _upload(found, name or Path(source).name, purpose, progress)
    elif isinstance(source, bytes):
        yield _upload(io.BytesIO(source), name or "file", purpose, progress)
    else:
        own = getattr(source, "name", None)
        own_name = Path(own).name if isinstance(own, str) else ""
        yield _upload(source, name or own_name or "file", purpose, progress)


def _upload(source: BinaryIO, name: str, purpose: str | None, progress: Progress | None) -> Upload:
    return Upload(name, cast("BinaryIO", Watched(source, progress)), purpose)


def downloaded(
    file: Artifact | File | str, into: BinaryIO, policy: RetryPolicy, progress: Progress | None = None
) -> Operation[int]:
    """Write a file's bytes to `into`; how many. A broken connection is gone on with where it was.

    An artifact is fetched by its signed link, which needs no key, and by its id once that has expired.
    Raises DownloadError when the received bytes do not match the file's size or hash.
    """
    start = into.tell()
    call = (
        _by_id(file)
        if isinstance(file, str) or not isinstance(file, Artifact) or not file.url
        else _by_link(file.url)
    )
    try:
        yield from _fetched(call, into, start, file, policy, progress)
    except PermissionDenied:
        if call.with_key or isinstance(file, str):
            raise
        yield from _fetched(_by_id(file), into, start, file, policy, progress)
    return into.tell() - start


def _fetched(  # the parts of one download
    call: Call,
    into: BinaryIO,
    start: int,
    file: Artifact | File | str,
    policy: RetryPolicy,
    progress: Progress | None,
) -> Operation[None]:
    size = None if isinstance(file, str) else file.size
    digest, attempt = hashlib.sha256(), 0
    while True:
        done = into.tell() - start
        ranged = Call(
            call.method,
            call.path,
            call.query,
            headers={"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {}),
            with_key=call.with_key,
        )
        if size is not None and done == size > 0:
            break  # all of it came before the connection broke
        try:
            reply = yield from exchange(ranged, policy, opened=True)
            if reply.status in _REDIRECTS and call.with_key:
                # To the store that has the bytes, by an address that needs no key.
                call = _by_link(reply.headers.get("location", ""))
                continue
            if reply.status >= 300:
                raise DownloadError(f"the service answered {reply.status} instead of the file's content")
            if done and reply.status != 206:
                yield Close()
                raise DownloadError("the service cannot resume the interrupted download")
            total = size if size is not None else done + int(reply.headers.get("content-length", 0))
            yield from _copied(into, start, digest, total, size, progress)
            break
        except ConnectionFailed:
            attempt = attempt + 1 if into.tell() - start == done else 1
            if not policy.again(attempt, None):
                raise
            yield Pause(policy.pause_s(attempt, None))
    if isinstance(file, str):
        return
    if into.tell() - start != file.size or (file.sha256 and digest.hexdigest() != file.sha256):
        raise DownloadError(f"{file.id}: the downloaded content has the wrong length or hash")


def _copied(  # the parts of one download
    into: BinaryIO, start: int, digest: hashlib._Hash, total: int, size: int | None, progress: Progress | None
) -> Operation[None]:
    while (data := (yield Chunk())) is not None:
        if size is not None and into.tell() - start + len(data) > size:
            raise DownloadError(f"received more than the file's {size} bytes")
        into.write(data)
        digest.update(data)
        if progress is not None:
            progress(into.tell() - start, total)
    yield Close()


def _by_id(file: Artifact | File | str) -> Call:
    return Call("GET", item("files", file if isinstance(file, str) else file.id, "content"))


def _by_link(url: str) -> Call:
    """Build a call for a signed link to any host; the key is not sent. Raises ConfigError for an invalid link."""
    try:
        parts = urlsplit(url)
    except ValueError as e:
        raise ConfigError("the service returned an invalid link") from e
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.username is not None:
        raise ConfigError("the service returned a link that is not http(s)")
    address = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return Call("GET", address, dict(parse_qsl(parts.query, keep_blank_values=True)), with_key=False)

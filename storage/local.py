"""Blobs in a directory: written to a temporary name, synced, renamed to their hash.

A blob is a file `blobs/ab/ab12…`. A killed writer leaves at most a file in `tmp/`. It is locked while its
writer lives, so that `clean` can distinguish it from one that is being written. Storing an existing blob renames
over it: this renews its age and repairs it if it was damaged; open readers continue with the old
file.

`commit` and `delete` exclude each other by a lock on `tmp/`: a blob cannot be found old, renewed, and then
deleted. Readers cannot take that lock, since they cannot open `tmp/`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE

from storage import CHUNK_BYTES, GRACE_S, SHA256, Blob, BlobInfo, BlobReader, BlobStore, Content, beneath
from storage.content import VerifyingReader, span
from storage.errors import (
    BlobDamaged,
    BlobMissing,
    StorageFull,
    StorageMisconfigured,
    system_errors_translated,
)
from storage.intake import WriterBase
from storage.layout import (
    BLOBS,
    GROUP_INHERITED,
    OTHERS_WRITE,
    PRIVATE_DIRECTORY,
    SHARED_DIRECTORY,
    TEMPORARY,
)

#: Errors of opening an entry that is not a file: another account has put it there.
_NOT_A_FILE = frozenset({errno.EINVAL, errno.ELOOP, errno.EXDEV, errno.ENOTDIR, errno.ENXIO, errno.EISDIR})
_FOLDER = re.compile(r"[0-9a-f]{2}")


class LocalReader(BlobReader):
    """Reads an area that another account writes, and trusts no entry in it."""

    def __init__(self, area: Path) -> None:
        """Open an area. Raises StorageUnavailable if it does not exist or may not be entered."""
        with system_errors_translated():
            self._root = os.open(area, beneath.DIRECTORY)

    def open(self, blob: Blob, offset: int = 0, length: int | None = None) -> Content:
        """Return the bytes asked for."""
        wanted = span(blob, offset, length)
        fd = self._open(blob.sha256)
        if fd is None:
            raise BlobMissing(blob.sha256)
        size = os.fstat(fd).st_size
        if size != blob.size:
            os.close(fd)
            raise BlobDamaged(blob.sha256, f"has {size} bytes instead of {blob.size}")
        return VerifyingReader(blob, wanted, _pieces(fd, offset, wanted), lambda: os.close(fd)).begin()

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return the size and age of the blob's file."""
        fd = self._open(sha256)
        if fd is None:
            return None
        found = os.fstat(fd)
        os.close(fd)
        return _stored(sha256, found)

    def stored(self) -> Iterator[BlobInfo]:
        """Yield every blob."""
        for folder in filter(_FOLDER.fullmatch, self._entries(BLOBS)):
            for name in filter(SHA256.fullmatch, self._entries(f"{BLOBS}/{folder}")):
                found = None
                with suppress(BlobDamaged):
                    found = self.stat(name)
                if found is not None:
                    yield found

    def presigned(self, blob: Blob, headers: dict[str, str], ttl_s: int) -> str | None:  # noqa: ARG002
        """Return None: a directory cannot serve clients."""
        return None

    def check(self) -> None:
        """Check that the area is still there."""
        with system_errors_translated():
            os.stat(BLOBS, dir_fd=self._root, follow_symlinks=False)

    def close(self) -> None:
        """Close the directory; the reader cannot be used afterwards."""
        os.close(self._root)

    def _open(self, sha256: str) -> int | None:
        path = _path(sha256)
        with system_errors_translated():
            try:
                return beneath.open_file(path, self._root)
            except OSError as e:
                if e.errno == errno.ENOENT:
                    return None
                if e.errno in _NOT_A_FILE:
                    raise BlobDamaged(sha256, "is not a file") from e
                raise

    def _entries(self, path: str) -> list[str]:
        """Return the names in a directory of this store; none if it is not a directory."""
        with system_errors_translated():
            try:
                folder = beneath.open_directory(path, self._root)
            except OSError as e:
                if e.errno == errno.ENOENT or e.errno in _NOT_A_FILE:
                    return []
                raise
            try:
                return os.listdir(folder)
            finally:
                os.close(folder)


class LocalStore(LocalReader, BlobStore):
    """Writes an area that belongs to this process's account alone."""

    def __init__(self, area: Path, *, group_reads: bool = False) -> None:
        """With `group_reads`, what is stored can be read by the group that the area belongs to.

        Raises StorageMisconfigured if another account could write there, StorageUnavailable as a reader does.
        """
        super().__init__(area)
        found = os.fstat(self._root)
        if found.st_uid != os.geteuid() or found.st_mode & OTHERS_WRITE:
            self.close()
            raise StorageMisconfigured("storage: an area is written only by the account it belongs to")
        self._file_mode = 0o640 if group_reads else 0o600
        directory_mode = SHARED_DIRECTORY if group_reads else PRIVATE_DIRECTORY
        with system_errors_translated():
            # Files get their group where they are made, which is here.
            self._temporary = _directory(
                TEMPORARY, self._root, PRIVATE_DIRECTORY | (GROUP_INHERITED if group_reads else 0)
            )
            self._blobs = _directory(BLOBS, self._root, directory_mode)
            for number in range(256):
                os.close(_directory(f"{number:02x}", self._blobs, directory_mode))
            for fd in (self._blobs, self._root):
                os.fsync(fd)

    def writer(self, max_bytes: int) -> LocalWriter:
        """Begin a blob."""
        with system_errors_translated():
            while True:
                name = secrets.token_hex(16)
                fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | beneath.SAFE, 0o600, dir_fd=self._temporary)
                fcntl.flock(fd, fcntl.LOCK_EX)
                # Before it was locked, `clean` may have removed it as a killed writer's; then another is made.
                if os.fstat(fd).st_nlink:
                    return LocalWriter(self, name, fd, max_bytes)
                os.close(fd)

    def publish(self, name: str, fd: int, sha256: str) -> None:
        """Turn a temporary file into a blob; called by LocalWriter. Raises OSError."""
        os.fchmod(fd, self._file_mode)
        os.fsync(fd)
        folder = beneath.open_directory(sha256[:2], self._blobs)
        try:
            with self._lock(fcntl.LOCK_SH):
                os.utime(fd)
                os.rename(name, sha256, src_dir_fd=self._temporary, dst_dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self, name: str) -> None:
        """Remove a temporary file if it is still one."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._temporary)

    def delete(self, sha256: str, grace_s: float = GRACE_S) -> bool:
        """Delete a blob, if it is old enough."""
        path = _path(sha256)
        with system_errors_translated(), self._lock(fcntl.LOCK_EX):
            try:
                found = os.stat(path, dir_fd=self._root, follow_symlinks=False)
                if time.time() - found.st_mtime < grace_s:
                    return False
                os.unlink(path, dir_fd=self._root)
            except FileNotFoundError:
                pass
        return True

    def clean(self) -> int:
        """Remove unlocked temporary files."""
        removed = 0
        with system_errors_translated():
            for name in os.listdir(self._temporary):
                try:
                    fd = beneath.open_file(name, self._temporary)
                except OSError:
                    continue  # committed or removed meanwhile
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=self._temporary)
                    removed += 1
                except (BlockingIOError, FileNotFoundError):
                    pass
                finally:
                    os.close(fd)
        return removed

    def check(self) -> None:
        """Check that the area exists and has room."""
        super().check()
        with system_errors_translated():
            room = os.fstatvfs(self._root)
        if not room.f_bavail or (room.f_files and not room.f_favail):
            raise StorageFull

    def close(self) -> None:
        """Close the directories."""
        for held in ("_blobs", "_temporary"):
            if hasattr(self, held):
                os.close(getattr(self, held))
        super().close()

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        # A lock belongs to what is opened, not to the thread: each holder needs an opening of its own.
        fd = beneath.open_directory(TEMPORARY, self._root)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)


class LocalWriter(WriterBase):
    """A file in `tmp/`, locked by this descriptor for as long as it is open."""

    def __init__(self, store: LocalStore, name: str, fd: int, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._store = store
        self._name = name
        self._fd = fd

    def _take(self, view: memoryview) -> None:
        with system_errors_translated():
            while view:
                view = view[os.write(self._fd, view) :]

    def _publish(self, blob: Blob) -> None:
        with system_errors_translated():
            self._store.publish(self._name, self._fd, blob.sha256)
        os.close(self._fd)

    def _discard(self) -> None:
        self._store.discard(self._name)
        os.close(self._fd)


def _directory(name: str, dir_fd: int, mode: int) -> int:
    """Return a descriptor of a directory of this store, made if missing, with that mode for any umask."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=dir_fd)
    fd = beneath.open_directory(name, dir_fd)
    if S_IMODE(os.fstat(fd).st_mode) != mode:
        os.fchmod(fd, mode)
    return fd


def _path(sha256: str) -> str:
    """Return the path of a blob. Raises ValueError for what is not a hash."""
    if not SHA256.fullmatch(sha256):
        raise ValueError("not a SHA-256 in lower-case hexadecimal")
    return f"{BLOBS}/{sha256[:2]}/{sha256}"


def _stored(sha256: str, found: os.stat_result) -> BlobInfo:
    return BlobInfo(Blob(sha256, found.st_size), max(0.0, time.time() - found.st_mtime))


def _pieces(fd: int, offset: int, length: int) -> Iterator[bytes]:
    """Yield `length` bytes, or as many as there are."""
    while length:
        with system_errors_translated():
            piece = os.pread(fd, min(length, CHUNK_BYTES), offset)
        if not piece:
            return
        yield piece
        offset += len(piece)
        length -= len(piece)

"""The errors of blobs and links.

StorageError
├── BlobMissing            there is no such blob
├── BlobDamaged            it is there, and is not what was stored
├── BlobTooLarge           more bytes than the caller allows; nothing of them is kept
├── StorageMisconfigured   storage that must not be used as it stands: a reason not to start
└── StorageUnavailable     cannot be reached, read or written now: worth another try, a 503
    └── StorageFull        no room
LinkError
├── LinkInvalid            not made here, for another file, or with a key that is no longer valid
└── LinkExpired            made here, and too long ago

Messages name blobs by their hash and hold no path, bucket or address, so they may be shown; the message of the
system or the server is in `__cause__`, which is for the log.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StorageError(Exception):
    """Anything that storage raises about blobs."""


class BlobMissing(StorageError):
    """There is no blob of this hash."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"blob {sha256}: is missing")
        self.sha256 = sha256


class BlobDamaged(StorageError):
    """The bytes kept under this hash are not the ones it names."""

    def __init__(self, sha256: str, what: str) -> None:
        super().__init__(f"blob {sha256}: {what}")
        self.sha256 = sha256


class BlobTooLarge(StorageError):
    """More bytes than allowed."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"larger than {max_bytes} bytes")
        self.max_bytes = max_bytes


class StorageMisconfigured(StorageError):
    """The storage is not safe or not possible to use as it is set up."""


class StorageUnavailable(StorageError):
    """The storage does not answer, or failed; the same call may succeed later."""


class StorageFull(StorageUnavailable):
    """There is no room left."""

    def __init__(self) -> None:
        super().__init__("storage is full")


@contextmanager
def system_errors_translated() -> Iterator[None]:
    """Turn errors of the operating system into storage errors; the path stays in the cause."""
    try:
        yield
    except OSError as e:
        if e.errno in _FULL:
            raise StorageFull from e
        raise StorageUnavailable("storage failed: " + os.strerror(e.errno or errno.EIO)) from e


class LinkError(Exception):
    """A signed link that opens nothing."""


class LinkInvalid(LinkError):
    """Not a link of this service for this file."""

    def __init__(self) -> None:
        super().__init__("the link is not valid")


class LinkExpired(LinkError):
    """A link that was good until a moment ago, or long ago."""

    def __init__(self) -> None:
        super().__init__("the link has expired")

"""Files: uploads and artifacts by id, the blobs they name, and how much of them a key keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from records.page import Order, RecordPage

#: Uploads are written by api, artifacts by the worker: two subtrees, so a blob is named by both words.
Area = Literal["upload", "artifact"]


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Bytes in storage: which subtree, and their SHA-256 in lower-case hexadecimal."""

    area: Area
    sha256: str


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose bytes are in storage already. Texts are kept unchanged and unchecked."""

    id: str
    name: str
    path: str
    size: int
    sha256: str
    content_type: str
    created_at_ms: int
    #: None: as long as what it belongs to.
    expires_at_ms: int | None = None
    purpose: str | None = None


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as it is kept. An artifact has the id of its run, an upload None."""

    id: str
    owner: str
    area: Area
    run_id: str | None
    name: str
    path: str
    size: int
    sha256: str
    content_type: str
    created_at_ms: int
    expires_at_ms: int | None
    purpose: str | None

    @property
    def blob(self) -> StoredBlob:
        return StoredBlob(self.area, self.sha256)


@dataclass(frozen=True, slots=True)
class StorageQuotaExceeded:
    """The file would take the owner above what a key may keep; `used_bytes` is what it keeps now."""

    used_bytes: int
    limit_bytes: int


class FileStore(Protocol):
    """Keeps what is known of files; artifacts are added by `RunStore.finish`. Raises RecordsUnavailable.

    When the last row that references a blob is deleted, the blob is recorded as unreferenced in the same
    transaction, so that it is removed eventually, even after a crash. Storage must not remove a blob that was
    stored again since: give `unreferenced` a grace of some minutes.
    """

    def put(
        self, owner: str, file: NewFile, *, limit_bytes: int | None = None
    ) -> FileRecord | StorageQuotaExceeded:
        """Keep an upload. Checking the limit on all the owner's files and adding are one step."""
        ...

    def get(self, owner: str, file_id: str) -> FileRecord | None:
        """Return the file of that owner, or None: unknown, deleted, expired and another's look the same."""
        ...

    def linked(self, file_id: str) -> FileRecord | None:
        """Return the file of any owner: for a signed link, which is the permission."""
        ...

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        area: Area | None = None,
    ) -> RecordPage[FileRecord]:
        """List the owner's files in the order in which they were added. Raises UnknownCursor."""
        ...

    def of_run(self, owner: str, run_id: str) -> tuple[FileRecord, ...]:
        """Return the artifacts of a run that are still stored, in the run's own order."""
        ...

    def delete(self, owner: str, file_id: str) -> bool:
        """Forget a file. False if the owner has none of that id."""
        ...

    def stored_bytes(self, owner: str) -> int:
        """Return the size of all the owner's files together, in bytes."""
        ...

    def in_use(self, blobs: Iterable[StoredBlob]) -> frozenset[StoredBlob]:
        """Return the blobs that at least one file references."""
        ...

    def mark_unreferenced(self, blobs: Iterable[StoredBlob]) -> None:
        """Record blobs that are in storage without a file, so that `unreferenced` lists them for removal."""
        ...

    def unreferenced(self, *, before_ms: int, limit: int = 1000) -> tuple[StoredBlob, ...]:
        """List blobs unreferenced since before `before_ms`. Remove them from storage, then call `delete_rows`."""
        ...

    def delete_rows(self, blobs: Iterable[StoredBlob]) -> None:
        """Delete the records of blobs that were removed from storage."""
        ...

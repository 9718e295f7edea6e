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
    """A file whose bytes are in storage already. Texts are kept as they are given, whatever is in them."""

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
class OverStorage:
    """The file would take the owner above what a key may keep; `used_bytes` is what it keeps now."""

    used_bytes: int
    limit_bytes: int


class FileStore(Protocol):
    """Keeps what is known of files; artifacts are added by `RunStore.finish`. Raises RecordsUnavailable.

    A blob that the last row naming it has left is written down in the same transaction (`unnamed`), so that it is
    removed from storage in the end even if everything is killed in between. Storage must not remove one that was
    written anew since: give `unnamed` a grace of some minutes.
    """

    def put(self, owner: str, file: NewFile, *, limit_bytes: int | None = None) -> FileRecord | OverStorage:
        """Keep an upload. Checking the limit on all the owner's files and adding are one step."""
        ...

    def get(self, owner: str, file_id: str) -> FileRecord | None:
        """Return the file of that owner, or None: unknown, deleted, expired and another's look the same."""
        ...

    def linked(self, file_id: str) -> FileRecord | None:
        """Return the file whoever owns it: for a signed link, which is the permission."""
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
        """Those of them that some file names."""
        ...

    def abandon(self, blobs: Iterable[StoredBlob]) -> None:
        """They are in storage and got no file: unless one names them, they are to be removed (`unnamed`)."""
        ...

    def unnamed(self, *, before_ms: int, limit: int = 1000) -> tuple[StoredBlob, ...]:
        """Blobs that no file has named since before that moment: remove them from storage, then `forget` them."""
        ...

    def forget(self, blobs: Iterable[StoredBlob]) -> None:
        """They are gone from storage."""
        ...

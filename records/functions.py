"""Functions: their versions, each with what it was made of, how its build ended, and the program that it left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from records.page import Order, RecordPage

if TYPE_CHECKING:
    from records.files import Area

BuildState = Literal["building", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class FunctionBlob:
    """A part of a version that is in storage: what it was made of, or its program."""

    part: Literal["source", "program"]
    area: Area
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that is about to be built.

    `document` has what is answered of it and its environment, `source` its code or files, both as JSON objects;
    `source` is empty if it is in storage (`blob`). `build_run_id` is the id of the run that builds it.
    """

    owner: str
    name: str
    language: str
    created_at_ms: int
    document: bytes
    source: bytes
    build_run_id: str
    blob: FunctionBlob | None = None

    @property
    def size(self) -> int:
        """Return the bytes that it takes, without its log and program."""
        return len(self.document) + (self.blob.size if self.blob is not None else len(self.source))


@dataclass(frozen=True, slots=True)
class FunctionBounds:
    """The most that one key may keep: functions, names that it has ever used, and bytes of all versions."""

    functions: int
    names: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class AddedVersion:
    """The number of a new version, and whether its function is new."""

    version: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class TooManyFunctions:
    """The key has as many functions, or has used as many names, as it may."""

    limit: int


@dataclass(frozen=True, slots=True)
class FunctionsTooLarge:
    """The versions of all functions of the key would take more than they may."""

    used_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class BuildEnd:
    """The end of a build. `program` is what it has compiled, if it has compiled anything."""

    state: Literal["ready", "failed"]
    at_ms: int
    log: str
    program: FunctionBlob | None = None
    #: The layer of its packages; None if it has none.
    layer: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """One version as it is stored; `created_at_ms` of the function is that of its first version."""

    owner: str
    name: str
    version: int
    language: str
    state: BuildState
    log: str
    document: bytes
    source: bytes
    build_run_id: str
    function_created_at_ms: int
    created_at_ms: int
    updated_at_ms: int
    blobs: tuple[FunctionBlob, ...] = ()
    layer: str | None = None

    def blob(self, part: Literal["source", "program"]) -> FunctionBlob | None:
        """Return the blob of one part; None where there is none."""
        return next((blob for blob in self.blobs if blob.part == part), None)


class FunctionStore(Protocol):
    """Keeps functions, each visible to its owner only. Every call is one transaction. Raises RecordsUnavailable.

    The number of a version is never used again, even after its function was deleted.
    """

    def add(
        self, version: NewVersion, bounds: FunctionBounds
    ) -> AddedVersion | TooManyFunctions | FunctionsTooLarge:
        """Keep a version that is about to be built, as the next one of its function."""
        ...

    def discard(self, owner: str, name: str, version: int) -> None:
        """Forget a version that is building; its function too if it has no other."""
        ...

    def end_build(self, owner: str, name: str, version: int, end: BuildEnd) -> bool:
        """Record the end of a build. Returns False, and changes nothing, if the version is not building."""
        ...

    def get(self, owner: str, name: str, version: int | None = None) -> FunctionVersion | None:
        """Return a version: by its number, or else the newest that is ready, or the newest of all if none is."""
        ...

    def newest(self, owner: str, name: str) -> FunctionVersion | None:
        """Return the newest version of a function, in any state."""
        ...

    def list(
        self, owner: str, *, limit: int, after: str | None = None, order: Order = "desc"
    ) -> RecordPage[FunctionVersion]:
        """List the owner's functions by the time of their first version, each as `get` returns it, without its
        source and log. `after` is the name of a function. Raises UnknownCursor.
        """
        ...

    def delete(self, owner: str, name: str) -> bool:
        """Forget a function with all its versions. Returns False if there is none of that name."""
        ...

    def building(self, *, limit: int = 1000) -> tuple[FunctionVersion, ...]:
        """Return versions of all owners that are building, without their source, the oldest first."""
        ...

    def prune(self, *, keep: int, batch: int = 200) -> int:
        """Forget old versions: all but the newest `keep` of each function and its newest ready one.

        Returns their number, at most `batch`. Versions that are building are kept.
        """
        ...

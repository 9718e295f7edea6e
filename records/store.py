"""What `records` promises to whoever keeps runs: the interface that memory fills today and SQL later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """A file of a run as its record names it; the bytes are elsewhere, under `sha256`."""

    id: str
    name: str
    path: str
    size: int
    sha256: str
    content_type: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as it stands: who it belongs to, whether it has ended, and its document.

    `document` is the run object of the API as JSON, exactly as it is answered: bytes are what a store can
    keep as they are and count.
    """

    id: str
    owner: str
    status: str
    language: str
    created_at: str
    document: bytes
    ended: bool = False
    artifacts: tuple[ArtifactRecord, ...] = ()
    #: The run's events as JSON, without their texts; None where nobody kept them.
    timeline: bytes | None = None


class RunStore(Protocol):
    """Keeps runs. Every call is safe from many threads; a run is its owner's and nobody else's."""

    def put(self, record: RunRecord) -> None:
        """Keep a run, or replace what is kept of it. A run that has ended is not changed again."""
        ...

    def get(self, owner: str, run_id: str) -> RunRecord | None:
        """The run of that owner, or None: unknown, forgotten and another's look the same."""
        ...

    def discard(self, run_id: str) -> None:
        """Forget a run that has not ended: it was never started."""
        ...

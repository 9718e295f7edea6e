"""Runs: what is known of one at each step, and the interface of what keeps them.

    accept ──▶ queued ───begin────▶ running ──finish──▶ succeeded, failed, timeout, … (never changed again)
                 │  ◀─ requeue, retry ───┘  │
                 └──────────finish──────────┘

A run belongs to an *attempt*: 1 when it is accepted, one more at each `retry`. Each report names its
attempt, so that a worker that was given up cannot change the next attempt.

Times are integer milliseconds since the epoch, of the caller's clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from records.files import Area, NewFile, StorageQuotaExceeded
from records.page import Order, RecordPage
from records.usage import NOTHING_USED, Quota, RunUsage

ENDED = frozenset({"error", "cancelled", "timeout", "oom", "killed", "failed", "succeeded"})
FIRST_ATTEMPT = 1
#: The searchable part of an error text: its end, which in interpreters' output names the error.
ERROR_BYTES = 512
#: The time for which an Idempotency-Key is remembered.
IDEMPOTENCY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class RunBlob:
    """A part of a run that is too large for a record: the bytes are in storage, in the area of who wrote them."""

    part: Literal["request", "stdout", "stderr", "results", "output"]
    area: Area
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is being accepted.

    `document` is the run object of the API as JSON, as it is answered but for outputs in storage; `request` the
    body that made the run. `status` is `running` where nothing will wait for a place: it saves `begin`.
    """

    id: str
    owner: str
    language: str
    created_at_ms: int
    document: bytes
    request: bytes
    status: Literal["queued", "running"] = "queued"
    #: Counted in the transaction that accepts the run, and only then.
    quota: Quota | None = None
    #: The run is rejected if its owner's files take this many bytes: there would be no room for its artifacts.
    storage_bytes: int | None = None
    #: The request where it is in storage; `request` is empty then.
    blob: RunBlob | None = None
    #: The run can be found by each of these names and values.
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: The session that it runs in, and a name of the client's own that no other run of its key has.
    session_id: str | None = None
    external_id: str | None = None
    #: The function that it calls or builds.
    function: str | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The header as it was given, and a digest of all that must be the same the next time (the body)."""

    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """The run is kept; dispatch it."""

    attempt: int = FIRST_ATTEMPT


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same request was accepted before, as this run; live, ended, or deleted since."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The Idempotency-Key was used with another request."""


@dataclass(frozen=True, slots=True)
class ExternalIdUsed:
    """Another run of the same key has the external id."""


@dataclass(frozen=True, slots=True)
class OverQuota:
    """The key has had all its runs of this period."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it stands."""

    id: str
    owner: str
    status: str
    language: str
    attempt: int
    created_at_ms: int
    #: None while it is live.
    ended_at_ms: int | None
    document: bytes

    @property
    def ended(self) -> bool:
        return self.ended_at_ms is not None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of a run; `body` is its JSON object, without a line feed, as it is sent."""

    seq: int
    body: bytes


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of a run, in order.

    `ended`: the run has ended, so that with `has_more` false the last event there will ever be is among them or
    was read before.
    """

    events: tuple[StoredEvent, ...]
    has_more: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of a run. Events already stored (by `seq`) are skipped, so all of them may be given."""

    status: str
    ended_at_ms: int
    document: bytes
    events: tuple[StoredEvent, ...] = ()
    artifacts: tuple[NewFile, ...] = ()
    usage: RunUsage = NOTHING_USED
    #: Outputs that are in storage, and not in the document.
    blobs: tuple[RunBlob, ...] = ()
    #: The document with those outputs in it, where there are any: it is answered, and not kept.
    answer: bytes | None = None
    #: It ended before it started: its Idempotency-Key is free again and it is not counted.
    never_began: bool = False
    #: The run can be found by any part of this text, of which the last `ERROR_BYTES` are kept; empty for none.
    error_text: str = ""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """The runs that are searched for; None and empty is any. All that is given must hold."""

    owner: str | None = None
    status: str | None = None
    language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Part of the error text, in any case.
    error: str | None = None
    session_id: str | None = None
    external_id: str | None = None
    function: str | None = None


class RunStore(Protocol):
    """Keeps runs. Every call is safe from many threads and processes; a run is visible to its owner only.

    Each changing call is one transaction: it is durable when the call has returned. Every call
    raises RecordsUnavailable after a bounded wait.
    """

    def accept(
        self, run: NewRun, idempotency: IdempotencyKey | None = None
    ) -> AcceptedRun | Duplicate | Mismatch | ExternalIdUsed | OverQuota | StorageQuotaExceeded:
        """Keep a run before it is dispatched. Of any number of duplicates in parallel exactly one is accepted.

        After RecordsUnavailable the run may nevertheless have been stored (the answer to the commit was lost):
        answer 503, and `discard` it when the database is back; no client knows its id.
        """
        ...

    def begin(self, run_id: str, attempt: int, document: bytes) -> bool:
        """Change a run from queued to running. Returns False and changes nothing if this attempt is not queued."""
        ...

    def requeue(self, run_id: str, attempt: int, document: bytes) -> bool:
        """Change a run from running back to queued, in the same attempt.

        It was accepted as running because a place seemed free, and must wait for one. Returns False and changes
        nothing if this attempt is not running.
        """
        ...

    def retry(self, run_id: str, attempt: int, document: bytes) -> int | None:
        """Queue a run as the next attempt and return its number; None if this attempt is not live."""
        ...

    def append_events(self, run_id: str, attempt: int, events: tuple[StoredEvent, ...]) -> bool:
        """Add to a live run what has happened, in batches. Events up to the last `seq` kept are passed over, so
        a batch may be repeated. False, and nothing kept, if that attempt is not live.
        """
        ...

    def finish(self, run_id: str, attempt: int, end: RunEnd) -> bool:
        """Record the end of a run in one transaction: status, document, last events, artifacts, usage.

        Returns False and changes nothing if this attempt is not live: it ended, was retried or was deleted. After
        RecordsUnavailable call it again, until it answers; it takes effect once.
        """
        ...

    def discard(self, run_id: str) -> bool:
        """Undo the acceptance of a live run that was never started: its Idempotency-Key is free again and it is
        not counted. False if no live run has that id.
        """
        ...

    def get(self, owner: str, run_id: str) -> Run | None:
        """Return a run of this owner, or None. Unknown, deleted and foreign runs look the same."""
        ...

    def request(self, owner: str, run_id: str) -> bytes | None:
        """Return the request body of the run, or None as `get` does. Empty if the body is in storage."""
        ...

    def request_blob(self, owner: str, run_id: str) -> RunBlob | None:
        """Return the blob of the run's request body if it is in storage, else None."""
        ...

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        order: Order = "desc",
        status: str | None = None,
        language: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> RecordPage[Run]:
        """List the owner's runs by time of acceptance, by default the newest first.

        A page holds at most `limit` runs and about 32 MiB of documents, so it may be shorter and yet have more
        to follow, even if it is empty. Raises UnknownCursor when `after` is not a run of the owner's.
        """
        ...

    def search(
        self, wanted: RunFilter, *, limit: int, after: str | None = None, order: Order = "desc"
    ) -> RecordPage[Run]:
        """List the runs of all owners that match. Older runs may lack metadata and error text, and do not match.

        One call looks at a bounded number of rows. If it finds fewer runs than `limit`, the page is short or
        empty and `cursor` continues after the last row. Raises UnknownCursor when `after` is not a run.
        """
        ...

    def events(self, owner: str, run_id: str, *, after: int = 0, limit: int = 1000) -> EventPage | None:
        """Return events with `seq` > `after`, at most `limit` and about 1 MiB; None as `get` does."""
        ...

    def delete(self, owner: str, run_id: str) -> Literal["deleted", "live", "unknown"]:
        """Forget an ended run, its request, events and artifacts. Its Idempotency-Key stays used: never twice."""
        ...

    def adopt(self) -> tuple[str, ...]:
        """Make this instance the one that has the live runs of instances whose lease has expired; their ids.

        Of several instances that do so at a time each run goes to one.
        """
        ...

    def is_live(self, run_id: str) -> bool:
        """Return whether a run, of any owner and instance, has no recorded end yet."""
        ...

    def unfinished(self) -> Iterator[Run]:
        """Iterate over the live runs of all owners, the oldest first, for recovery at start.

        Included are the runs of this instance and of instances whose lease has expired. An instance with a valid
        lease recovers its own runs.

        None that is accepted after this call is among them, nor one that has ended by the time it would come.
        They are read in batches, so each step of the iterator may raise RecordsUnavailable.
        """
        ...

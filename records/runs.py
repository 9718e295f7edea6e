"""Runs: what is known of one at each step, and the interface of what keeps them.

    accept ──▶ queued ───begin────▶ running ──finish──▶ succeeded, failed, timeout, … (never changed again)
                 │  ◀─ requeue, retry ───┘  │
                 └──────────finish──────────┘

A run belongs to an *attempt*: 1 when it is accepted, one more at each `retry`. Whoever reports on an attempt names
it, so that a worker thought dead cannot change what the next one does.

Times are integer milliseconds since the epoch, of the caller's clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from records.files import Area, NewFile, OverStorage
from records.page import Order, RecordPage
from records.usage import NOTHING_USED, Quota, RunUsage

ENDED = frozenset({"error", "cancelled", "timeout", "oom", "killed", "failed", "succeeded"})
FIRST_ATTEMPT = 1
#: What is kept of an error text to be searched: its end, where interpreters say what went wrong.
ERROR_BYTES = 512
#: How long an Idempotency-Key is remembered.
IDEMPOTENCY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class RunBlob:
    """A part of a run that is too large for a record: the bytes are in storage, in the area of who wrote them."""

    part: Literal["request", "stdout", "stderr"]
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
    #: Refused if its owner keeps so many bytes of files already: there would be no room for its artifacts.
    storage_bytes: int | None = None
    #: The request where it is in storage; `request` is empty then.
    blob: RunBlob | None = None
    #: The run can be found by each of these names and values.
    metadata: Mapping[str, str] = field(default_factory=dict)


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
    """How a run ended. Events already kept (by `seq`) are passed over, so all of them may be given."""

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


class RunStore(Protocol):
    """Keeps runs. Every call is safe from many threads and processes; a run is its owner's and nobody else's.

    Each changing call is one transaction: it is kept when it has returned, whoever is killed after. Every call
    raises RecordsUnavailable after a bounded wait.
    """

    def accept(
        self, run: NewRun, idempotency: IdempotencyKey | None = None
    ) -> AcceptedRun | Duplicate | Mismatch | OverQuota | OverStorage:
        """Keep a run before it is dispatched. Of any number of duplicates in parallel exactly one is accepted.

        After RecordsUnavailable the run may have been kept all the same (the answer to the commit was lost):
        answer 503, and `discard` it when the database is back; nobody was told its id.
        """
        ...

    def begin(self, run_id: str, attempt: int, document: bytes) -> bool:
        """From queued to running. False, and nothing changed, if it is not queued in that attempt."""
        ...

    def requeue(self, run_id: str, attempt: int, document: bytes) -> bool:
        """From running back to queued, in the same attempt: a run that was accepted as running, in the hope of a
        place, has to wait for one. False, and nothing changed, if it is not running in that attempt.
        """
        ...

    def retry(self, run_id: str, attempt: int, document: bytes) -> int | None:
        """Back to queued as the next attempt, which is returned. None if that attempt is not live."""
        ...

    def append_events(self, run_id: str, attempt: int, events: tuple[StoredEvent, ...]) -> bool:
        """Add to a live run what has happened, in batches. Events up to the last `seq` kept are passed over, so
        a batch may be repeated. False, and nothing kept, if that attempt is not live.
        """
        ...

    def finish(self, run_id: str, attempt: int, end: RunEnd) -> bool:
        """The one transaction that ends a run: status, document, last events, artifacts, usage.

        False, and nothing changed, if that attempt is not live: it had ended, was retried or deleted. After
        RecordsUnavailable call it again, until it answers; it takes effect once.
        """
        ...

    def discard(self, run_id: str) -> bool:
        """Undo the acceptance of a live run that was never started: its Idempotency-Key is free again and it is
        not counted. False if no live run has that id.
        """
        ...

    def get(self, owner: str, run_id: str) -> Run | None:
        """The run of that owner, or None: unknown, forgotten and another's look the same."""
        ...

    def request(self, owner: str, run_id: str) -> bytes | None:
        """The body that made the run, or None as for `get`. Empty for one that is in storage."""
        ...

    def request_blob(self, owner: str, run_id: str) -> RunBlob | None:
        """The body that made the run where it is in storage; else None."""
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
        """The owner's runs in the order they were accepted, newest first unless asked otherwise.

        A page holds at most `limit` runs and about 32 MiB of documents, so it may be shorter and yet have more
        to follow, even if it is empty. Raises UnknownCursor when `after` is not a run of the owner's.
        """
        ...

    def search(
        self, wanted: RunFilter, *, limit: int, after: str | None = None, order: Order = "desc"
    ) -> RecordPage[Run]:
        """Runs of all owners, as `list`. Runs from before metadata and error texts were kept are found by neither.

        One call looks at a bounded number of rows. Where that finds fewer runs than `limit`, the page is short or
        empty and `cursor` goes on behind them. Raises UnknownCursor when `after` is not a run.
        """
        ...

    def events(self, owner: str, run_id: str, *, after: int = 0, limit: int = 1000) -> EventPage | None:
        """Events with `seq` > `after`: at most `limit` of them and about 1 MiB. None as for `get`."""
        ...

    def delete(self, owner: str, run_id: str) -> Literal["deleted", "live", "unknown"]:
        """Forget an ended run, its request, events and artifacts. Its Idempotency-Key stays used: never twice."""
        ...

    def unfinished(self) -> Iterator[Run]:
        """Runs of all owners that are live, the oldest first: for recovery at start.

        Those that this instance accepted, and those of instances whose lease is dead: another's that lives sees to
        its own.

        None that is accepted after this call is among them, nor one that has ended by the time it would come.
        They are read in batches, so each step of the iterator may raise RecordsUnavailable.
        """
        ...

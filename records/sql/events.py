"""Events of a run, kept in chunks of about 64 KiB: a row each would cost more than the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, select

from records.packing import LARGEST_SEQ, chunks, events_of
from records.runs import EventPage, StoredEvent
from records.sql.tables import events as table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

#: A page of events is made of at most as many chunks.
PAGE_CHUNKS = 16

INSERT = insert(table)
COLUMNS = ("run_seq", "last_seq", "chunk")
_READ = (
    select(table.c.chunk)
    .where(table.c.run_seq == bindparam("run_seq"), table.c.last_seq > bindparam("above"))
    .order_by(table.c.last_seq)
    .limit(PAGE_CHUNKS + 1)
)

Chunks = list[tuple[int, bytes]]


def packed(events: Sequence[StoredEvent]) -> Chunks:
    """Pack events into chunks, which needs no transaction. Raises ValueError; see `chunks`."""
    return list(chunks(events))


def newer(events: Sequence[StoredEvent], ready: Chunks, last: int) -> Chunks:
    """Return only those of the packed events that come after `last`."""
    return ready if not events or events[0].seq > last else list(chunks(events, above=last))


def rows(run_seq: int, ready: Chunks) -> list[dict[str, int | bytes]]:
    """Return the rows to insert."""
    return [{"run_seq": run_seq, "last_seq": seq, "chunk": chunk} for seq, chunk in ready]


def read(connection: Connection, run_seq: int, after: int) -> list[bytes]:
    """Read one chunk more than a page holds, if there is one, still packed."""
    asked = {"run_seq": run_seq, "above": min(max(after, 0), LARGEST_SEQ)}
    return list(connection.execute(_READ, asked).scalars())


def page(found: list[bytes], *, after: int, limit: int, ended: bool) -> EventPage:
    """Return the page of events in those chunks."""
    events: list[StoredEvent] = []
    for chunk in found[:PAGE_CHUNKS]:
        events += [event for event in events_of(chunk) if event.seq > after]
        if len(events) > limit:
            return EventPage(tuple(events[:limit]), has_more=True, ended=ended)
    return EventPage(tuple(events), has_more=len(found) > PAGE_CHUNKS, ended=ended)

"""The events of a run as they are answered: live from the worker, or again from the record of one that ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from api.http.media import SSE
from api.http.query import parse_int
from dispatch import EventsUnknown, WorkerLost, WorkerUnavailable
from dispatch.source import NOTHING_YET
from records.errors import RecordsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from api.files.links import ArtifactLinkSigner
    from dispatch import Dispatcher
    from dispatch.source import MessageSource
    from records.runs import Run, RunStore, StoredEvent

MAX_SEQ = 2**31
#: Between looks at a run that is neither at the worker nor recorded as ended: it is on its way.
LOOK_S = 0.005
LOOK_MOST_S = 1.0
#: Seconds for which a live run may be found nowhere.
NOWHERE_S = 30.0

Message = dict[str, Any]


def encode_events(messages: Iterator[Message], media: str) -> Iterator[bytes]:
    """Encode each event as bytes of that media type; NOTHING_YET as none."""
    for message in messages:
        if message is NOTHING_YET:
            yield b""
            continue
        line = orjson.dumps(message)
        if media == SSE:
            yield b"id: %d\nevent: %b\ndata: %b\n\n" % (message["seq"], message["event"].encode(), line)
        else:
            yield line + b"\n"


def parse_after(text: str | None, name: str) -> int:
    """Return a sequence number that a client sent. Raises ApiError 400 naming the parameter."""
    return parse_int(text, name, 0, MAX_SEQ, default=0)


def final_event(run: Run, seq: int, t_ms: int, signer: ArtifactLinkSigner) -> Message:
    """Return the event that ends a stream: the run, or its error."""
    if run.status == "error":
        return {"seq": seq, "event": "error", "data": orjson.loads(run.document)["error"], "t_ms": t_ms}
    return {"seq": seq, "event": "result", "data": orjson.Fragment(signer.document(run.document)), "t_ms": t_ms}


def replay_events(
    run: Run, timeline: Iterable[StoredEvent], after: int, signer: ArtifactLinkSigner
) -> Iterator[Message]:
    """Yield the events after `after` of an ended run: its timeline, with the texts from its document.

    If a run's events were not kept (its worker was lost), only its end is known.
    """
    document = orjson.loads(run.document)
    at = {"stdout": 0, "stderr": 0}
    artifacts, results = iter(document["artifacts"]), iter(document.get("results", ()))
    seq = t_ms = 0
    for event in timeline:
        seq = event.seq
        kind, data, t_ms = orjson.loads(event.body)
        if kind in at:
            begin, at[kind] = at[kind], at[kind] + data
            data = document[kind][begin : at[kind]]
        elif kind == "artifact":
            data = signer.artifact(next(artifacts))
        elif kind == "display":
            data = next(results, None)
        if seq > after:
            yield {"seq": seq, "event": kind, "data": data, "t_ms": t_ms}
    if seq == 0:
        yield final_event(run, after + 1, 0, signer)
    elif seq >= after:
        yield final_event(run, seq + 1, t_ms, signer)


def output_in_order(document: dict[str, Any], timeline: Iterable[StoredEvent]) -> str | None:
    """Return both outputs of an ended run in the order in which they were read; None if that is not known."""
    texts: list[str] = []
    at = {"stdout": 0, "stderr": 0}
    for event in timeline:
        kind, length, _ = orjson.loads(event.body)
        if kind in at:
            begin, at[kind] = at[kind], at[kind] + length
            texts.append(document[kind][begin : at[kind]])
    if any(at[kind] != len(document[kind]) for kind in at):
        return None
    return "".join(texts)


class RunFollower:
    """Follows runs from wherever they are."""

    def __init__(self, dispatcher: Dispatcher, store: RunStore, whole: Callable[[Run], Run]) -> None:
        """`whole` puts a run's outputs into its document, wherever they are."""
        self._dispatcher = dispatcher
        self._store = store
        self.whole = whole

    def follow(
        self,
        run: Run,
        after: int,
        signer: ArtifactLinkSigner,
        *,
        client_fd: int | None,
        source: MessageSource | None = None,
    ) -> Iterator[Message]:
        """Yield the run's events after `after`, until its end. Raises ClientGone.

        Artifacts are reported from the record: a client that gets the event can fetch the artifact. `source` tells
        where the next event comes from; with it NOTHING_YET is yielded before each wait for something else.
        """
        nowhere_until = time.monotonic() + NOWHERE_S
        pause_s = LOOK_S
        while not run.ended:
            try:
                collecting = False
                for message in self._dispatcher.events(run.id, after, client_fd=client_fd, source=source):
                    if message is NOTHING_YET:
                        yield message
                        continue
                    nowhere_until = time.monotonic() + NOWHERE_S
                    collecting = collecting or message["event"] == "artifact"
                    if not collecting:
                        after = message["seq"]
                        yield message
            except (EventsUnknown, WorkerLost, WorkerUnavailable):
                pass  # it has just ended, or is being dispatched, or will be reported as lost
            with suppress(RecordsUnavailable):
                now = self._store.get(run.owner, run.id)
                if now is None:
                    return
                run = now
            if not run.ended:
                if time.monotonic() > nowhere_until:
                    return
                if source is None:
                    time.sleep(pause_s)
                else:
                    source.sleep(pause_s)
                    yield NOTHING_YET
                pause_s = min(pause_s * 2, LOOK_MOST_S)
        yield from replay_events(self.whole(run), self._timeline(run), after, signer)

    def _timeline(self, run: Run) -> Iterator[StoredEvent]:
        last, more = 0, True
        while more:
            page = self._store.events(run.owner, run.id, after=last)
            if page is None:
                return
            yield from page.events
            more = page.has_more
            last = page.events[-1].seq if page.events else last

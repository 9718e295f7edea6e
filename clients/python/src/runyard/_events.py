"""The events of a run: read line by line, and gone on with when the connection breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runyard._calls import act, answered, fetch, item
from runyard._retry import Delivery, RetryPolicy, exchange
from runyard._steps import Call, Chunk, Close, Emit, Operation, Pause, parsed
from runyard.errors import Conflict, ConnectionFailed, ProtocolError, RunyardError, StreamLost
from runyard.models import Event, Row, Run

if TYPE_CHECKING:
    from runyard._steps import Notice

#: The service sends an event at least every five seconds.
SILENCE_S = 30.0
#: A run with both outputs at their ceiling, every character escaped, with a wide margin.
MAX_LINE_BYTES = 128 * 1024 * 1024
_NDJSON = {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}


class LineBuffer:
    """Cuts bytes into lines at newlines alone: output holds characters that Python takes for line ends too."""

    def __init__(self, most: int = MAX_LINE_BYTES) -> None:
        self._held = bytearray()
        self._looked = 0
        self._most = most

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that these bytes complete, without their line ends. Raises ProtocolError."""
        self._held += data
        lines = []
        while (end := self._held.find(b"\n", self._looked)) >= 0:
            lines.append(bytes(self._held[:end]))
            del self._held[: end + 1]
            self._looked = 0
        self._looked = len(self._held)
        if self._looked > self._most:
            raise ProtocolError(f"an event is longer than {self._most} bytes")
        return lines


@dataclass(slots=True)
class Place:
    """The position of a reader of events: the run, the last event, and the run if it has ended."""

    run_id: str | None
    after: int = 0
    #: The closing event's run; of an `error` event there is only its id.
    run: Run | None = None
    closed: bool = False


class Following:
    """A run that is followed: one that was there, or, with a `start`, one that is started for it."""

    def __init__(
        self, place: Place, policy: RetryPolicy, *, start: Call | None = None, notice: Notice | None = None
    ) -> None:
        self.place = place
        self._policy = policy
        self._start = start
        self._notice = notice
        self._delivery = Delivery()
        self._released = False

    @property
    def must_cancel(self) -> bool:
        """Return whether leaving the stream must cancel the run: started here, still live, not detached."""
        started = self.place.run_id is not None or self._delivery.in_doubt
        return self._start is not None and started and not self.place.closed and not self._released

    def release(self) -> None:
        """Leave the run to itself: the end of a `with` block does not cancel it any more."""
        self._released = True

    def events(self) -> Operation[None]:
        """Start the run if it was not started, and emit its events to the end."""
        if self._start is not None and self.place.run_id is None:
            try:
                self.place.run_id = yield from submitted(self._start, self._policy, self._delivery)
            except RunyardError:
                # Refused, or given up after all attempts: there is no run to look for.
                self._delivery.in_doubt = False
                raise
        yield from followed(self.place, self._policy, self._notice)

    def result(self) -> Operation[Run]:
        """Return the ended run. If its status is `error`, the run is fetched from the service."""
        if self.place.run is not None:
            return self.place.run
        return (yield from answered(fetch(item("runs", self._id())), self._policy, Run.of))

    def cancelled(self) -> Operation[Run | None]:
        """Cancel it, also when its start was interrupted and may have arrived; None if there is no run."""
        self._released = True
        if self.place.run is not None:
            return self.place.run
        if self.place.run_id is None:
            if self._start is None or not self._delivery.in_doubt:
                return None
            self._delivery.in_doubt = False
            # The same Idempotency-Key: the run that was started, or else one that is cancelled at once.
            self.place.run_id = yield from submitted(self._start, RetryPolicy(retries=0))
        return (yield from answered(act(item("runs", self._id(), "cancel"), safe=True), self._policy, Run.of))

    def _id(self) -> str:
        assert self.place.run_id is not None
        return self.place.run_id


def submitted(call: Call, policy: RetryPolicy, delivery: Delivery | None = None) -> Operation[str]:
    """Have a run in the background; its id, also when an earlier attempt had already started it."""
    try:
        reply = yield from exchange(call, policy, outlast=False, delivery=delivery)
    except Conflict as e:
        if e.code == "idempotency_key_in_use" and e.run_id is not None:
            return e.run_id
        raise
    return Row(reply.json(), "run").text("id")


def followed(place: Place, policy: RetryPolicy, notice: Notice | None) -> Operation[None]:
    """Emit the events after `place.after` to the closing one, each once, across lost connections.

    Raises StreamLost once the policy's attempts have brought no event, ApiError for what the service refuses.
    """
    assert place.run_id is not None
    attempt = 0
    while True:
        before = place.after
        call = Call(
            "GET",
            item("runs", place.run_id, "events"),
            {"after": place.after},
            headers=_NDJSON,
            silence_s=SILENCE_S,
        )
        try:
            yield from exchange(call, policy, notice, opened=True)
            if (yield from _read(place)):
                return
            broken = ConnectionFailed("the service ended the stream before the run did")
        except ConnectionFailed as e:
            broken = e
        attempt = 1 if place.after > before else attempt + 1
        if not policy.again(attempt, None):
            raise StreamLost(
                f"the event stream of {place.run_id} was lost after event {place.after}: {broken}",
                run_id=place.run_id,
                after=place.after,
            ) from broken
        pause_s = policy.pause_s(attempt, None)
        if notice is not None:
            notice(broken, pause_s)
        yield Pause(pause_s)


def _read(place: Place) -> Operation[bool]:
    """Emit what the opened reply brings; whether the closing event was among it."""
    buffer = LineBuffer()
    while (data := (yield Chunk())) is not None:
        for line in buffer.feed(data):
            event = Event.of(parsed(line))
            if event.seq <= place.after:
                continue
            place.after = event.seq
            if event.last:
                place.closed = True
                place.run = event.data if isinstance(event.data, Run) else None
                yield Close()
            yield Emit(event)
            if event.last:
                return True
    yield Close()
    return False

"""Number the events of a run, decode its output as it arrives, and keep the number of events bounded.

Output is one event per write if writes are far apart. Close writes, within a moment of
the last output, are sent together: the first byte is never delayed, and a program that writes a million
single bytes makes some thousands of events and not a million.

For later a log is kept as its timeline: the order and the lengths of the events; the result has
their texts.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from typing import Any, NamedTuple

OUTPUTS = ("stdout", "stderr")
#: Events whose data the result has, in their order.
BY_REFERENCE = ("artifact", "display")
#: Output this close to the output before it waits for the rest of that moment.
COALESCE_S = 0.002
#: The same, for a run that has made this many events already.
BUSY_COALESCE_S = 0.02
BUSY_EVENTS = 2_000
#: So much output does not wait at all.
FULL_CHARS = 32 * 1024
KEEPALIVE_S = 5.0

_DECODER = codecs.getincrementaldecoder("utf-8")


class RunEvent(NamedTuple):
    """One event: `data` is text for output, an object or None for the other kinds; `t_ms` since the start."""

    seq: int
    kind: str
    data: Any
    t_ms: int

    def to_json(self) -> dict[str, Any]:
        """Return the event in the form of API.md."""
        return {"seq": self.seq, "event": self.kind, "data": self.data, "t_ms": self.t_ms}


class EventLog:
    """The events of one run, in order. Written by one thread; read by any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = self._last_at = clock()
        self._output_at = float("-inf")
        self._events: list[RunEvent] = []
        self._decoders = {kind: _DECODER("replace") for kind in OUTPUTS}
        self._held: list[str] = []
        self._held_kind = ""
        self._held_chars = 0

    def __len__(self) -> int:
        return len(self._events)

    def after(self, seq: int) -> list[RunEvent]:
        """Return the events with a greater number."""
        return self._events[seq:]

    def add(self, kind: str, data: Any) -> None:  # noqa: ANN401  # any JSON
        """Add an event now, after any output that was held."""
        self.flush()
        self._append(kind, data)

    def output(self, kind: str, payload: bytes) -> None:
        """Add bytes that the program wrote: an event of their own, or part of the next one."""
        self._hold(kind, self._decoders[kind].decode(payload))

    def end_of_output(self) -> None:
        """End the output: bytes that were cut in the middle of a character become U+FFFD."""
        for kind, decoder in self._decoders.items():
            self._hold(kind, decoder.decode(b"", final=True))
        self.flush()

    def due(self) -> float:
        """Return when `tick` has something to do, in the clock's seconds."""
        return self._output_at + self._window_s() if self._held else self._last_at + KEEPALIVE_S

    def tick(self) -> None:
        """Add the events that are due: held output, or a keepalive after a silence."""
        if self._clock() < self.due():
            return
        if self._held:
            self.flush()
        else:
            self._append("keepalive", None)

    def flush(self) -> None:
        """Make an event of the output that was held."""
        if self._held:
            text, self._held, self._held_chars = "".join(self._held), [], 0
            self._append(self._held_kind, text)
            self._output_at = self._last_at

    def text(self, kind: str) -> str:
        """Return all output of a kind, as its events had it."""
        return "".join([event.data for event in self._events if event.kind == kind])

    def timeline(self) -> list[list[Any]]:
        """Return the events without the texts that the result holds: `[kind, data, t_ms]` each.

        `data` is the number of characters for output, None for an artifact or a display (they are in the result's
        order).
        """
        return [[event.kind, _reference(event), event.t_ms] for event in self._events]

    def _hold(self, kind: str, text: str) -> None:
        if not text:
            return
        if self._held and self._held_kind != kind:
            self.flush()
        self._held_kind = kind
        self._held.append(text)
        self._held_chars += len(text)
        if self._held_chars >= FULL_CHARS or self._clock() >= self.due():
            self.flush()

    def _window_s(self) -> float:
        return COALESCE_S if len(self._events) < BUSY_EVENTS else BUSY_COALESCE_S

    def _append(self, kind: str, data: Any) -> None:  # noqa: ANN401
        self._last_at = now = self._clock()
        self._events.append(RunEvent(len(self._events) + 1, kind, data, round((now - self._began_at) * 1000)))


def _reference(event: RunEvent) -> Any:  # noqa: ANN401
    if event.kind in OUTPUTS:
        return len(event.data)
    return None if event.kind in BY_REFERENCE else event.data

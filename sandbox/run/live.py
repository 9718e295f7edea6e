"""One run while the worker has it: what it has said so far, who hears it, and the means to end it early.

One thread runs it (the owner): it sleeps in poll() and never blocks on a listener. Any thread may cancel it or
follow its events.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from config.clock import now
from protocol.states import LiveStatus
from sandbox.run.events import EventLog, RunEvent
from sandbox.run.reply_channel import HUNG_UP, ReplyChannel

#: A listener that is so far behind its run holds the program's pipes up.
BEHIND_BYTES = 256 * 1024

#: `status`: only that it waits and that it runs, where it had to wait. `all`: everything, as it happens.
Subscription = Literal["status", "all"]
#: Why a run is ended early: somebody asked for it, the service stops, or whoever waited has died.
Stop = Literal["cancelled", "stopping", "interrupted"]


@dataclass(frozen=True, slots=True)
class EventSink:
    """The reply channel of whoever waits for a run, and which of its events are pushed there."""

    channel: ReplyChannel
    subscription: Subscription


@dataclass(slots=True)
class Timestamps:
    """When things happened to a run, in seconds of the monotonic clock; None: they did not."""

    accepted: float
    #: It had its place; it had its sandbox, with its limits in force.
    admitted: float | None = None
    ready: float | None = None
    ended: float = 0.0


class LiveRun:
    """A run from its acceptance to its result."""

    def __init__(
        self,
        run_id: str,
        language: str,
        *,
        outlet: EventSink | None = None,
        on_status: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.id = run_id
        self.language = language
        self.log = EventLog()
        self.timestamps = Timestamps(time.monotonic())
        #: Where its result is waited for; None for one that runs in the background, or has been left.
        self.outlet = outlet
        self.stop: Stop | None = None
        #: The data of the newest `info`.
        self.info: dict[str, Any] | None = None
        self._on_status = on_status
        self._waited = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._change = threading.Condition()
        self._told = 0
        self._followers = 0
        self._ended = False

    # -- for any thread ----------------------------------------------------------------------------

    def cancel(self, why: Stop) -> None:
        """Have it ended; without effect on one that has ended or is being ended."""
        with self._change:
            if self.stop is None and not self._ended:
                self.stop = why
                os.eventfd_write(self._wake_fd, 1)

    def follow(self, after: int, timeout_s: float) -> tuple[list[RunEvent], bool]:
        """Wait for events with a greater number; return them, and whether the run has ended with them."""
        with self._change:
            self._followers += 1
            self._change.wait_for(lambda: self._ended or len(self.log) > after, timeout_s)
            self._followers -= 1
            return self.log.after(after), self._ended

    @property
    def has_listeners(self) -> bool:
        """Return whether anybody receives its events as they happen."""
        return self._followers > 0 or (self.outlet is not None and self.outlet.subscription == "all")

    # -- for the owner: what it says ---------------------------------------------------------------

    def emit(self, kind: str, data: Any = None) -> None:  # noqa: ANN401  # whatever JSON can say
        """Emit an event other than output."""
        self.log.add(kind, data)
        self._tell()

    def output(self, kind: str, payload: bytes) -> None:
        """Emit bytes that the program wrote."""
        self.log.output(kind, payload)
        self._tell()

    def end_of_output(self) -> None:
        """Note that the program will write no more."""
        self.log.end_of_output()
        self._tell()

    def tick(self) -> None:
        """Say what is due by the clock."""
        self.log.tick()
        self._tell()

    def status(self, status: LiveStatus, **more: int) -> None:
        """Set the status to queued or running. Status listeners are told only of runs that had to wait."""
        self._waited = self._waited or status == "queued"
        info = {"id": self.id, "language": self.language, "status": status, "at": now(), **more}
        self.info = info
        self.emit("info", info)
        if self._on_status is not None:
            self._on_status(info)
        if self._waited and self.outlet is not None and self.outlet.subscription == "status":
            self.outlet.channel.push(self.log.after(len(self.log) - 1)[0].to_json())

    def _tell(self) -> None:
        if len(self.log) == self._told:
            return
        outlet = self.outlet
        if outlet is not None and outlet.subscription == "all":
            outlet.channel.push(*[event.to_json() for event in self.log.after(self._told)])
        self._told = len(self.log)
        if self._followers:
            with self._change:
                self._change.notify_all()

    # -- for the owner: its sleep ------------------------------------------------------------------

    @property
    def is_backpressured(self) -> bool:
        """Return whether the listener reads more slowly than the run emits."""
        return self.outlet is not None and self.outlet.channel.unsent_bytes > BEHIND_BYTES

    def register(self, poller: select.poll) -> None:
        """Wake the owner for a stop, a listener's departure, and room for what is unsent."""
        if self.stop is None:
            poller.register(self._wake_fd, select.POLLIN)
        if self.outlet is not None:
            channel = self.outlet.channel
            poller.register(channel.closed_fd(), select.POLLRDHUP | (select.POLLOUT if channel.unsent_bytes else 0))

    def look(self) -> None:
        """Notice at once, without waiting, whether the listener has hung up."""
        poller = select.poll()
        self.register(poller)
        for fd, event in poller.poll(0):
            self.handle_event(fd, event)

    def handle_event(self, fd: int, event: int) -> None:
        """Attend to what the poller said of one of the descriptors registered here."""
        if self.outlet is None or fd != self.outlet.channel.closed_fd():
            return
        if event & HUNG_UP:
            why: Stop = "cancelled" if self.outlet.channel.has_left() else "interrupted"
            self.outlet = None
            self.cancel(why)
        elif event & select.POLLOUT:
            self.outlet.channel.flush()

    def end(self) -> None:
        """End the run: nothing more will be emitted."""
        self.timestamps.ended = time.monotonic()
        with self._change:
            self._ended = True
            self._change.notify_all()
        os.close(self._wake_fd)

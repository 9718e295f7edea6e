"""One run while the worker has it: its events so far, its listeners, and the means to end it early.

One thread runs it (the owner): it sleeps in poll() and never blocks on a listener. Any thread may cancel it or
follow its events.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from config.clock import now
from protocol.states import LiveStatus
from sandbox.run.events import EventLog, RunEvent
from sandbox.run.inbox import RunInbox, RunInput
from sandbox.run.reply_channel import HUNG_UP, ReplyChannel

#: A listener that is so far behind its run holds the program's pipes up.
BEHIND_BYTES = 256 * 1024

#: `status`: only that it waits and that it runs, where it had to wait. `all`: everything, as it happens.
Subscription = Literal["status", "all"]
#: The reason to end a run early: a request, the stop of the service, or the crash of the waiting api.
Stop = Literal["cancelled", "stopping", "interrupted"]


@dataclass(frozen=True, slots=True)
class EventSink:
    """The reply channel of a run's waiting client, and the events that are pushed there."""

    channel: ReplyChannel
    subscription: Subscription


@dataclass(slots=True)
class Timestamps:
    """When things happened to a run, in seconds of the monotonic clock; None: they did not."""

    accepted: float
    #: The times at which it got its place, and its sandbox with applied limits.
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
        takes_input: bool = False,
    ) -> None:
        """`takes_input`: more of it, and signals, may come while it runs."""
        self.inbox = RunInbox() if takes_input else None
        self.id = run_id
        self.language = language
        self.log = EventLog()
        self.timestamps = Timestamps(time.monotonic())
        #: The channel that waits for its result; None for a background run, or one that was left.
        self.outlet = outlet
        self.stop: Stop | None = None
        #: The data of the newest `info`.
        self.info: dict[str, Any] | None = None
        self._on_status = on_status
        self._waited = False
        self._phase = ""
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

    def ask(self, put: Callable[[RunInbox], None]) -> bool:
        """Put something into the inbox for the owner to see. Returns False if that takes nothing (any more)."""
        with self._change:
            if self.inbox is None or self._ended:
                return False
            put(self.inbox)
            if self.inbox.is_fresh and self.inbox.is_served:
                os.eventfd_write(self._wake_fd, 1)
        return True

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

    # -- for the owner: events ---------------------------------------------------------------------

    def emit(self, kind: str, data: Any = None) -> None:  # noqa: ANN401  # any JSON
        """Emit an event other than output."""
        self.log.add(kind, data)
        self._tell()

    def begin_phase(self, name: str) -> None:
        """Emit that a phase begins; once, also where it begins again in another sandbox."""
        if name != self._phase:
            self._phase = name
            self.emit("phase", {"name": name})

    def output(self, kind: str, payload: bytes) -> None:
        """Emit bytes that the program wrote."""
        self.log.output(kind, payload)
        self._tell()

    def end_of_output(self) -> None:
        """Note that the program will write no more."""
        self.log.end_of_output()
        self._tell()

    def tick(self) -> None:
        """Emit the events that are due by the clock."""
        self.log.tick()
        self._tell()

    def status(self, status: LiveStatus, **more: int) -> None:
        """Set the status to queued or running. Status listeners get only runs that had to wait."""
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

    # -- for the owner: what is asked of it --------------------------------------------------------

    def serve_requests(self) -> None:
        """Wake the owner for what is put into the inbox, from now on: it has a program to give it to."""
        if self.inbox is not None:
            with self._change:
                self.inbox.is_served = True

    @property
    def has_requests(self) -> bool:
        """Return whether something lies in the inbox that the owner has not seen."""
        return self.inbox is not None and self.inbox.is_fresh

    def take_requests(self, stdin: RunInput) -> list[int]:
        """Move input from the inbox to the program's, as far as there is room. Returns the signals among it."""
        if self.inbox is None:
            return []
        with self._change:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
            signals = self.inbox.take(stdin)
            self._change.notify_all()
        return signals

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait, on any thread, until the inbox takes more input. Returns False when it does not in that time."""
        with self._change:
            return self._change.wait_for(
                lambda: self._ended or self.inbox is None or self.inbox.has_room, timeout_s
            )

    # -- for the owner: its sleep ------------------------------------------------------------------

    @property
    def is_backpressured(self) -> bool:
        """Return whether the listener reads more slowly than the run emits."""
        return self.outlet is not None and self.outlet.channel.unsent_bytes > BEHIND_BYTES

    def register(self, poller: select.poll) -> None:
        """Wake the owner for a stop, a listener's disconnection, and room for unsent bytes."""
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
        """Handle the poller's event for a descriptor registered here."""
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

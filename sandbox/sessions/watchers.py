"""The watchers of a session: each is a file operation in its sandbox, whose events are kept for its readers."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from config.ids import new_id
from sandbox.frames import ProtocolError, unpack
from sandbox.sessions.channel import ChannelEnded
from sandbox.sessions.files import Entry, FileRefused, PackedLists, report_of

if TYPE_CHECKING:
    from sandbox.sessions.channel import SessionChannel
    from sandbox.sessions.session import LiveSession

MOST_WATCHERS = 8
#: Of each watcher, the latest so many.
EVENTS_KEPT = 1000
MAX_EVENT_BYTES = 16 * 1024
START_S = 30.0
KINDS = ("create", "modify", "remove", "move", "overflow")


class TooManyWatchers(Exception):
    """The session has as many watchers as one may."""


class DirectoryChange(NamedTuple):
    """A change of a path relative to what is watched; `seq` counts the events of a watcher from 1."""

    seq: int
    kind: str
    path: bytes
    to: bytes

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; paths may be any bytes, and are given as text of one character for each."""
        return {
            "event": self.kind,
            "seq": self.seq,
            "path": self.path.decode("latin-1"),
            "to": self.to.decode("latin-1"),
        }


class SessionWatcher:
    """One watcher. The hub's thread takes what it says; any other may look at its events."""

    def __init__(self, channel: SessionChannel) -> None:
        self.id = new_id("watch")
        self.is_over = False
        #: Its first report, until that is complete.
        self.report = bytearray()
        self._channel = channel
        self._change = threading.Condition()
        self._lists = PackedLists(MAX_EVENT_BYTES)
        self._events: deque[DirectoryChange] = deque(maxlen=EVENTS_KEPT)
        self._seq = 0

    def begin(self) -> Entry:
        """Take what it says from now on; the entry of what it watches. Raises FileRefused, ProtocolError."""
        self._channel.on_arrival = self._take
        self._take()
        with self._change:
            has_begun = self._change.wait_for(lambda: self.is_over or report_of(self.report) is not None, START_S)
        found = report_of(self.report)
        if not has_begun or found is None:
            raise FileRefused("io_error", "the watch could not be started")
        return Entry.parse(found)

    def events(self, after: int, timeout_s: float = 0) -> tuple[list[DirectoryChange], bool]:
        """Return the events beyond `after`, waiting for one, and whether there will be no more.

        If some are not kept any more, an `overflow` comes in their place.
        """
        with self._change:
            self._change.wait_for(lambda: self._seq > after or self.is_over, timeout_s)
            found = [event for event in self._events if event.seq > after]
            if found and found[0].seq > after + 1:
                found.insert(0, DirectoryChange(found[0].seq - 1, "overflow", b"", b""))
            return found, self.is_over

    def close(self) -> None:
        """End it. Without effect when repeated."""
        if not self._channel.is_closed:
            self._channel.kill()
        self._channel.close()
        with self._change:
            self.is_over = True
            self._change.notify_all()

    def _take(self) -> None:
        with self._change:
            try:
                for kind, data in self._channel.take():
                    self._keep(kind, data)
                self.is_over = self.is_over or self._channel.end is not None
            except ChannelEnded:
                self.is_over = True
            if self.is_over:  # with its session, or its directory: nobody may come to close it
                self._channel.close()
            self._change.notify_all()

    def _keep(self, kind: str, data: bytes) -> None:
        if kind == "stderr":
            self.report = (self.report + data)[:MAX_EVENT_BYTES]
            return
        for packed in self._lists.feed(data):
            self._seq += 1
            self._events.append(_event(self._seq, packed))


def _event(seq: int, packed: bytes) -> DirectoryChange:
    kind, path, to = unpack(packed, 3)
    text = kind.decode("ascii", "replace")
    if text not in KINDS:
        raise ProtocolError("a change of an unknown kind")
    return DirectoryChange(seq, text, path, to)


class WatcherTable:
    """The watchers of one session, by id: those that were asked for, and those that are streamed."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._watchers: dict[str, SessionWatcher] = {}
        self._starting = 0

    def start(self, path: bytes, *, recursive: bool) -> SessionWatcher:
        """Begin to watch a directory. Raises TooManyWatchers, FileRefused, and what a file operation raises."""
        with self._lock:
            self._forget_ended()
            if len(self._watchers) + self._starting >= MOST_WATCHERS:
                raise TooManyWatchers
            self._starting += 1
        try:
            channel = self._session.stream.start_operation(b"watch", path, b"1" if recursive else b"0")
            watcher = SessionWatcher(channel)
            try:
                watcher.begin()
            except BaseException:
                watcher.close()
                raise
            with self._lock:
                self._watchers[watcher.id] = watcher
            return watcher
        finally:
            with self._lock:
                self._starting -= 1

    def find(self, watcher_id: str) -> SessionWatcher | None:
        """Return a watcher; one whose directory has gone too, until it is removed or its place is needed."""
        with self._lock:
            return self._watchers.get(watcher_id)

    def remove(self, watcher: SessionWatcher) -> None:
        """End a watcher."""
        with self._lock:
            self._watchers.pop(watcher.id, None)
        watcher.close()

    def _forget_ended(self) -> None:
        if len(self._watchers) < MOST_WATCHERS:
            return
        for name, watcher in list(self._watchers.items()):
            if watcher.is_over:
                watcher.close()
                del self._watchers[name]

"""The connections whose answers are suspended: what each waits for, until it goes on."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.server.connection import ClientConnection
    from api.server.relay import Relay

_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class _Wait(NamedTuple):
    """The events of descriptors that a connection waits for, and until when."""

    relay: Relay
    fds: tuple[int, ...]
    #: When its source is too late, if it waits for that.
    late_at: float | None


class SuspendedAnswers:
    """A descriptor that is readable when one of them can go on. All is called on the loop's thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waits: dict[ClientConnection, _Wait] = {}
        self._by_fd: dict[int, ClientConnection] = {}
        #: Those that go on at a moment.
        self._sleeping: dict[ClientConnection, float] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._epoll.fileno()

    def add(self, conn: ClientConnection, relay: Relay) -> None:
        """Wait for what an answer needs."""
        wanted = {conn.sock.fileno(): _GONE}
        late_at = None
        if relay.is_blocked:
            wanted = {conn.sock.fileno(): select.EPOLLOUT}
        elif (until := relay.source.sleeps_until()) is not None:
            self._sleeping[conn] = until
        elif (fd := relay.source.waits_on()) is not None:
            wanted[fd] = select.EPOLLIN
            late_at = time.monotonic() + relay.source.silent_s
        else:  # its moment has come
            self._sleeping[conn] = 0.0
        for fd, mask in wanted.items():
            self._epoll.register(fd, mask)
            self._by_fd[fd] = conn
        self._waits[conn] = _Wait(relay, tuple(wanted), late_at)

    def ready(self) -> list[ClientConnection]:
        """Return the connections whose wait is over, and forget them."""
        found = [self._by_fd[fd] for fd, _ in self._epoll.poll(0) if fd in self._by_fd]
        return self._taken(found)

    def awake(self) -> list[ClientConnection]:
        """Return the connections whose moment has come, and forget them."""
        if not self._sleeping:
            return []
        now = time.monotonic()
        return self._taken([conn for conn, until in self._sleeping.items() if until <= now])

    def wakes_in(self, most: float) -> float:
        """Return the seconds until the next moment, at most `most`."""
        if not self._sleeping:
            return most
        return min(most, max(0.0, min(self._sleeping.values()) - time.monotonic()))

    def late(self) -> list[ClientConnection]:
        """Return the connections that have waited too long, and forget them; each goes on and ends by that."""
        now = time.monotonic()
        found = []
        for conn, wait in self._waits.items():
            if wait.relay.is_blocked:
                if wait.relay.is_too_slow():
                    wait.relay.cut()
                    found.append(conn)
            elif wait.late_at is not None and now > wait.late_at:
                wait.relay.source.expire()
                found.append(conn)
        return self._taken(found)

    def __iter__(self) -> Iterator[tuple[ClientConnection, Relay]]:
        """Iterate over all of them."""
        return iter([(conn, wait.relay) for conn, wait in self._waits.items()])

    def _taken(self, conns: list[ClientConnection]) -> list[ClientConnection]:
        taken = []
        for conn in conns:
            wait = self._waits.pop(conn, None)
            if wait is None:  # both of its descriptors had an event
                continue
            self._sleeping.pop(conn, None)
            for fd in wait.fds:
                self._epoll.unregister(fd)
                del self._by_fd[fd]
            taken.append(conn)
        return taken

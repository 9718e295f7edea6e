"""The loop: one thread that watches all connections while no request of theirs is worked on.

It receives requests until they are complete and hands them to threads in turn, sends what is left of large answers,
closes connections, and ends what takes too long. Nothing here waits but for the next event.

* An answer that takes long is suspended between its pieces (`suspended.py`): nothing but a descriptor is watched
  for it, and a thread goes on with it when there is more to send.
* At most ARRIVING_MOST connections of an address may be without a complete request; beyond that the oldest is
  closed. When all connections are in use, the one that has been idle for longest is closed, so that idle ones
  never stop `accept`.
* A closed connection is kept for a while, and what its client still sends is thrown away; else the kernel would
  discard the answer that the client has not read yet.
"""

from __future__ import annotations

import enum
import errno
import logging
import selectors
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from api.ratelimit.client_address import is_proxy
from api.server.connection import ClientConnection, Rules, Step
from api.server.suspended import SuspendedAnswers
from api.server.turns import STALLED_S, Turns

if TYPE_CHECKING:
    from concurrent.futures import Future

    from api.server.answers import Leaving
    from config.parsers import Network

log = logging.getLogger(__name__)

#: So many connections of one address may be without a complete request, those younger than a moment aside.
ARRIVING_MOST = 64
ARRIVING_GRACE_S = 1.0
#: Seconds between two checks for connections that have taken too long.
LOOK_S = 0.5
#: Seconds between two signs of life to the parent process, which waits for a minute: each is a write to a file.
SIGN_OF_LIFE_S = 1.0
#: Seconds for which a closed connection's client may continue to send before it is cut off.
LINGERING_S = 2.0
LINGERING_BYTES = 64 * 1024
RECEIVE_BYTES = 64 * 1024


def receive(sock: socket.socket) -> bytes | None:
    """Return what has come: nothing at its end or when the client is gone, None if nothing has come yet."""
    try:
        return sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class Fate(enum.Enum):
    """The ways in which a connection continues after a thread has finished with it."""

    KEEP = "it waits for its next request"
    CLOSE = "it is closed"
    ARRIVING = "a part of its next request is there"
    LEAVING = "a rest of its answer must be sent"
    TAKEN = "it was taken over"
    SUSPENDED = "its answer goes on later"


class Loop(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Watches connections. Every method runs on the loop's thread, except two whose docstring names a thread."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.turns = Turns()
        #: Set by the subclass, which knows the application.
        self.rules: Rules
        self.trusted: tuple[Network, ...] = ()
        #: Connections without a complete request, by address, the oldest first.
        self._arriving: dict[str, OrderedDict[ClientConnection, None]] = {}
        #: Connections that are closed but for what their clients still send: until when, and how much that was.
        self._lingering: dict[socket.socket, tuple[float, int]] = {}
        self._leaving: dict[ClientConnection, tuple[Leaving, bool]] = {}
        #: Made in `run`: this object is made in the parent process.
        self._suspended: SuspendedAnswers
        #: Until when a streamed body must have arrived.
        self._deadlines: dict[socket.socket, float] = {}
        self._looked_at = 0.0
        self._notified_at = 0.0

    def run(self) -> None:
        """Watch connections until the process stops."""
        self._suspended = SuspendedAnswers()
        self.poller.register(self._suspended.fileno(), selectors.EVENT_READ, self._suspended_ready)
        super().run()

    def serve_connection(self, conn: ClientConnection) -> Fate:
        """Serve a complete request, or move a suspended answer on. Runs on a thread."""
        raise NotImplementedError

    def ask_whose(self, conn: ClientConnection) -> Fate:
        """Find out whose request it is of which no more may come before. Runs on a thread."""
        raise NotImplementedError

    def answer_error(self, conn: ClientConnection, error: Exception | None) -> None:
        """Answer what is no request, or with None one that did not come in time."""
        raise NotImplementedError

    def allow(self, sock: socket.socket, seconds: float | None) -> None:
        """Limit the time in which the rest of a streamed body must arrive; None ends it. Called on a thread."""
        if seconds is None:
            self._deadlines.pop(sock, None)
        else:
            self._deadlines[sock] = time.monotonic() + seconds

    # -- connections -------------------------------------------------------------------------------

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, and read from it when something has come."""
        try:
            sock, address = listener.accept()
        except OSError as e:
            if e.errno in (errno.EMFILE, errno.ENFILE):
                self._close_one()
            log.debug("accept: %s", e)
            return
        sock.setblocking(False)
        conn = ClientConnection(self.rules, sock, address, listener.getsockname())
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.nr_conns += 1
        self._await_request(conn)
        self._bound_arriving(conn.address)
        if self.nr_conns >= self.worker_connections:
            self._close_one()

    def _await_request(self, conn: ClientConnection) -> None:
        """Watch a connection whose request is not complete."""
        conn.watched_at = time.monotonic()
        self._arriving.setdefault(conn.address, OrderedDict())[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._readable, conn))

    def _unwatch(self, conn: ClientConnection) -> None:
        of_address = self._arriving.get(conn.address)
        if of_address is not None:
            of_address.pop(conn, None)
            if not of_address:
                del self._arriving[conn.address]
        self.poller.unregister(conn.sock)

    def _bound_arriving(self, address: str) -> None:
        """Close what an address has beyond its share of connections without a complete request."""
        of_address = self._arriving.get(address, OrderedDict())
        if len(of_address) <= ARRIVING_MOST or is_proxy(address, self.trusted):
            return
        young = time.monotonic() - ARRIVING_GRACE_S
        for conn in list(of_address)[: len(of_address) - ARRIVING_MOST]:
            if conn.watched_at > young:
                return
            self._readable(conn, conn.sock)  # its request may have come since
            if conn in self._arriving.get(address, ()):
                self._refuse(conn, None)

    def _close_one(self) -> None:
        """Close the connection that has been idle for longest, else the oldest without a request."""
        if self.keepalived_conns:
            conn = self.keepalived_conns.popleft()
            self.poller.unregister(conn.sock)
            self._close(conn)
            return
        oldest = min(
            (next(iter(conns)) for conns in self._arriving.values()), key=lambda conn: conn.watched_at, default=None
        )
        if oldest is not None:
            self._refuse(oldest, None)

    def _readable(self, conn: ClientConnection, sock: socket.socket) -> None:
        """Receive what has come of a request that is not complete."""
        if conn not in self._arriving.get(conn.address, ()):
            return  # closed by what happened just before
        data = receive(sock)
        if data is None:
            return
        self._came_to(conn, conn.take(data))

    def on_client_socket_readable(self, conn: ClientConnection, client: socket.socket) -> None:
        """Handle an idle connection that has become readable: its next request, or its end."""
        try:
            self.keepalived_conns.remove(conn)
        except ValueError:  # closed by what happened just before
            return
        self.poller.unregister(client)
        self._await_request(conn)
        self._readable(conn, client)

    def _came_to(self, conn: ClientConnection, step: Step) -> None:
        """Do what a request wants next that is watched."""
        if step is Step.MORE:
            return
        if step is Step.GONE:
            self._unwatch(conn)
            self._close(conn)
        elif step is Step.BAD:
            self._refuse(conn, conn.error)
        else:
            self._unwatch(conn)
            self.go_on(conn, step)

    def go_on(self, conn: ClientConnection, step: Step) -> None:
        """Have a thread for a connection that is not watched."""
        work = self.serve_connection if step is Step.READY else self.ask_whose
        self.turns.ask(conn.whose, partial(self._begin, work, conn))

    def _begin(self, work: Callable[[ClientConnection], Fate], conn: ClientConnection) -> None:
        """Give a request, whose turn it is, to a thread. Called on any thread."""
        try:
            done: Future[Fate] = self.tpool.submit(work, conn)
        except RuntimeError:  # the worker ends
            self.turns.leave(conn.whose)
            return
        done.add_done_callback(lambda done: self.method_queue.defer(self._done, conn, done))

    # -- after a request ---------------------------------------------------------------------------

    def _done(self, conn: ClientConnection, done: Future[Fate]) -> None:
        """Continue with a connection that a thread has finished with."""
        try:
            fate = done.result() if not done.cancelled() else Fate.CLOSE
        except Exception:
            log.exception("a connection was not served to its end")
            fate = Fate.CLOSE
        if fate is Fate.TAKEN:
            if conn.is_taken:
                self._forget(conn)
            return
        conn.sock.setblocking(False)
        if fate is Fate.SUSPENDED:
            assert conn.relay is not None
            self._suspended.add(conn, conn.relay)
            return
        if fate is Fate.LEAVING:
            left, conn.left = conn.left, None
            assert left is not None
            self._leaving[conn] = (left, conn.keeps)
            self.poller.register(conn.sock, selectors.EVENT_WRITE, partial(self._writable, conn))
        elif fate is Fate.ARRIVING:
            self._await_request(conn)
        elif fate is Fate.KEEP:
            self._keep(conn)
        else:
            self._close(conn)

    def _keep(self, conn: ClientConnection) -> None:
        """Keep a connection for its next request, which may have come already."""
        if conn.pending:
            pending, conn.pending = conn.pending, b""
            self._await_request(conn)
            self._came_to(conn, conn.take(pending))
            return
        conn.timeout = time.monotonic() + (self.cfg.keepalive if self.alive else LINGERING_S)
        self.keepalived_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_client_socket_readable, conn))

    def _suspended_ready(self, _fd: int) -> None:
        """Go on with the answers whose source has more, or whose client can take more or is gone."""
        self._move_on(self._suspended.ready())

    def _move_on(self, conns: list[ClientConnection]) -> None:
        for conn in conns:
            self.go_on(conn, Step.READY)

    def _writable(self, conn: ClientConnection, sock: socket.socket) -> None:
        """Send more of an answer to a client that can take it."""
        if conn not in self._leaving:
            return
        left, keeps = self._leaving[conn]
        try:
            if not left.send(sock):
                return
        except OSError:
            keeps = False
        self._left(conn)
        if keeps:
            self._keep(conn)
        else:
            self._close(conn)

    def _left(self, conn: ClientConnection) -> None:
        left, _ = self._leaving.pop(conn)
        left.close()
        self.poller.unregister(conn.sock)

    def _refuse(self, conn: ClientConnection, error: Exception | None) -> None:
        """Answer a watched connection whose request is none, or did not come in time, and close it."""
        self._unwatch(conn)
        self.answer_error(conn, error)
        self._close(conn)

    def _close(self, conn: ClientConnection) -> None:
        """Close a connection that is not watched, once its client has stopped sending."""
        self._forget(conn)
        sock = conn.sock
        try:
            sock.setblocking(False)
            sock.shutdown(socket.SHUT_WR)
            self._lingering[sock] = (time.monotonic() + LINGERING_S, 0)
            self.poller.register(sock, selectors.EVENT_READ, self._discard)
        except OSError:
            self._lingering.pop(sock, None)
            sock.close()

    def _forget(self, conn: ClientConnection) -> None:
        conn.forget()
        self.nr_conns -= 1
        if conn.is_taken:
            conn.sock.close()

    def _discard(self, sock: socket.socket) -> None:
        """Throw away what is sent on a connection that is closed."""
        if sock not in self._lingering:
            return
        until, size = self._lingering[sock]
        data = receive(sock)
        if data is None:
            return
        size += len(data)
        if data and size < LINGERING_BYTES:
            self._lingering[sock] = (until, size)
            return
        self._cut_off(sock)

    def _cut_off(self, sock: socket.socket) -> None:
        del self._lingering[sock]
        self.poller.unregister(sock)
        sock.close()

    # -- what takes too long -----------------------------------------------------------------------

    def notify(self) -> None:
        """Tell the parent process that this one lives; not at every event, as upstream does."""
        if (moment := time.monotonic()) - self._notified_at >= SIGN_OF_LIFE_S:
            self._notified_at = moment
            super().notify()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait as upstream does, and not for long while requests wait for a turn.

        An error of one connection must not end the process and with it all others.
        """
        timeout = self._suspended.wakes_in(timeout)
        for key, _ in self.poller.select(min(timeout, STALLED_S) if self.turns.has_waiting else timeout):
            try:
                key.data(key.fileobj)
            except Exception:
                log.exception("a connection was dropped")
                self._drop(key)
        self._move_on(self._suspended.awake())
        if self.turns.has_waiting:
            self.turns.unstick()

    def _drop(self, key: selectors.SelectorKey) -> None:
        """Close a connection of which nothing more is known to be right."""
        conn = key.data.args[0] if isinstance(key.data, partial) else None
        if not isinstance(conn, ClientConnection):
            return
        with suppress(KeyError, ValueError):
            self._unwatch(conn)
        rest = self._leaving.pop(conn, None)
        if rest is not None:
            rest[0].close()
        self._forget(conn)
        conn.sock.close()

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002
        """Close connections that exceed their time, in addition to upstream's own. Called after each wait."""
        super().murder_keepalived(force)
        now = time.monotonic()
        if now - self._looked_at < LOOK_S and not force:
            return
        self._looked_at = now
        for address, conns in list(self._arriving.items()):
            for conn in list(conns):
                self._look_at_arriving(conn, now)
            self._bound_arriving(address)
        self._move_on(self._suspended.late())
        if force:
            for conn, relay in self._suspended:
                relay.source.abandon()
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)
        for conn, (left, _) in list(self._leaving.items()):
            if left.is_too_slow() or force:
                self._left(conn)
                self._close(conn)
        for sock, (until, _) in list(self._lingering.items()):
            if now > until or force:
                self._cut_off(sock)
        for sock, deadline in list(self._deadlines.items()):
            if now > deadline:
                # The thread that reads sees the end of the stream.
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)

    def _look_at_arriving(self, conn: ClientConnection, now: float) -> None:
        if conn.is_idle:
            if now > conn.timeout or (not self.alive and now > conn.watched_at + LINGERING_S):
                self._unwatch(conn)
                self._close(conn)
        elif now > conn.deadline:
            step = conn.late()
            if step is Step.BAD:
                self._refuse(conn, None)
            else:
                self._came_to(conn, step)

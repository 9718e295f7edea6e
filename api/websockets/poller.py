"""The one thread that serves all WebSockets: it moves bytes between each client and what it talks to."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from api.websockets.wire import GOING_AWAY, RESTART, Wire
from config.pieces import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: Beyond this much unsent for one side the other side is not read.
HIGH_BYTES = 256 * 1024
#: Seconds without a message after which a client gets a ping, and after which it is dropped.
PING_S = 20.0
SILENT_S = 60.0
#: Seconds after which a client that takes none of the waiting bytes is dropped.
STUCK_S = 60.0
#: Seconds that a closing WebSocket waits for the client's close frame.
CLOSING_S = 2.0
LOOK_S = 1.0
#: Seconds that a stop waits for the close frames to be sent; the connections end with the process in any case.
STOP_S = 0.5


class Conversation(Protocol):
    """Translates between a client and the other side. Everything is called on the poller's thread."""

    #: The bytes to send to the other side.
    outgoing: bytearray

    def on_message(self, message: str | bytes, wire: Wire) -> None:
        """Handle a message of the client: a whole text, or a piece of a binary one."""
        ...

    def on_bytes(self, data: bytes, wire: Wire) -> None:
        """Handle bytes of the other side; none at its end."""
        ...

    def on_close(self) -> None:
        """Give back what is held; nothing follows."""
        ...


class _Side:
    """One socket of a WebSocket, and the events that the poller waits for on it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.mask: int | None = None
        self.is_open = True


class _WebSocket:
    """One client, the other side, and what each waits for."""

    def __init__(self, client: socket.socket, other: socket.socket, wire: Wire, talk: Conversation) -> None:
        self.client, self.other = _Side(client), _Side(other)
        self.wire, self.talk = wire, talk
        now = time.monotonic()
        self.heard_at = self.sent_at = now
        self.pinged_at = now
        self.closing_at: float | None = None

    @property
    def reads_client(self) -> bool:
        """Return whether the client is read: also while it closes, for its own word of that."""
        return self.wire.is_closing or (
            len(self.talk.outgoing) < HIGH_BYTES and len(self.wire.outgoing) < 2 * HIGH_BYTES
        )

    @property
    def reads_other(self) -> bool:
        """Return whether the other side is read."""
        return self.other.is_open and not self.wire.is_closing and len(self.wire.outgoing) < HIGH_BYTES

    def is_late(self, now: float) -> bool:
        """Return whether the client has been silent or stuck for too long; ask one that is silent."""
        if self.closing_at is not None and now - self.closing_at > CLOSING_S:
            return True
        if self.wire.outgoing and now - self.sent_at > STUCK_S:
            return True
        if not self.reads_client:
            self.heard_at = self.pinged_at = now
            return False
        if now - self.heard_at > SILENT_S:
            return True
        if now - max(self.heard_at, self.pinged_at) > PING_S:
            self.pinged_at = now
            self.wire.ping()
        return False


class WebSocketPoller:
    """Serves WebSockets; its thread is started with the first. `add` and `stop` are safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._poller: select.epoll | None = None
        self._wake_fd = -1
        self._new: deque[_WebSocket] = deque()
        self._by_fd: dict[int, _WebSocket] = {}
        self._is_stopping = False

    def add(
        self, client: socket.socket, pending: bytes, other: socket.socket, wire: Wire, talk: Conversation
    ) -> None:
        """Serve a WebSocket from now on: `pending` is what its client has sent already."""
        for sock in (client, other):
            sock.setblocking(False)
        made = _WebSocket(client, other, wire, talk)
        for message in wire.receive(pending) if pending else ():
            talk.on_message(message, wire)
        with self._lock:
            if self._is_stopping:
                self._close(made)
                return
            self._start()
            self._new.append(made)
        os.eventfd_write(self._wake_fd, 1)

    def stop(self) -> None:
        """Tell every client that the service restarts, and end the thread."""
        with self._lock:
            self._is_stopping = True
            thread = self._thread
        if thread is not None:
            os.eventfd_write(self._wake_fd, 1)
            thread.join(STOP_S)

    def _start(self) -> None:
        if self._thread is None:
            self._poller = select.epoll()
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._poller.register(self._wake_fd, select.EPOLLIN)
            self._thread = threading.Thread(target=self._serve, name="websockets", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        poller = self._poller
        assert poller is not None
        looked_at = time.monotonic()
        is_told = False
        while not (self._is_stopping and not self._by_fd and not self._new):
            for fd, event in poller.poll(LOOK_S):
                if fd == self._wake_fd:
                    with suppress(BlockingIOError):
                        os.eventfd_read(fd)
                elif (found := self._by_fd.get(fd)) is not None:
                    self._attend(found, partial(self._move, found, fd, event))
            while self._new:
                self._begin(self._new.popleft())
            if self._is_stopping and not is_told:
                is_told = True
                for one in self._all():
                    one.wire.close(RESTART, "the service restarts")
                    self._attend(one, lambda: None)
            if time.monotonic() - looked_at >= LOOK_S:
                looked_at = time.monotonic()
                self._look(looked_at)

    def _all(self) -> list[_WebSocket]:
        return list({id(one): one for one in self._by_fd.values()}.values())

    def _begin(self, made: _WebSocket) -> None:
        for side in (made.client, made.other):
            self._by_fd[side.sock.fileno()] = made
        self._attend(made, lambda: None)

    def _attend(self, one: _WebSocket, move: Callable[[], None]) -> None:
        """Do something for a WebSocket, send what it makes, and end it if it is over."""
        try:
            move()
            is_over = not self._flush(one)
            if not is_over:
                self._watch(one)
        except OSError:
            is_over = True
        except Exception:
            log.exception("a WebSocket could not be served")
            is_over = True
        if is_over:
            self._remove(one)

    def _move(self, one: _WebSocket, fd: int, event: int) -> None:
        if not event & ~select.EPOLLOUT:
            return
        if fd == one.client.sock.fileno():
            data = _receive(one.client.sock)
            if data is None:
                return
            if not data:
                raise ConnectionError("the client has gone")
            one.heard_at = time.monotonic()
            for message in one.wire.receive(data):
                one.talk.on_message(message, one.wire)
            return
        data = _receive(one.other.sock)
        if data is None:
            return
        one.talk.on_bytes(data, one.wire)
        if not data:
            one.other.is_open = False
            one.wire.close(GOING_AWAY, "the service has lost the session")

    def _flush(self, one: _WebSocket) -> bool:
        """Send what either side takes. Returns False when all is over."""
        if _send(one.client.sock, one.wire.outgoing) or not one.wire.outgoing:
            one.sent_at = time.monotonic()
        if one.other.is_open:
            try:
                _send(one.other.sock, one.talk.outgoing)
            except OSError:  # its earlier bytes are still to be read
                one.talk.outgoing.clear()
        if one.wire.is_closing:
            if one.closing_at is None:
                one.closing_at = time.monotonic()
            return bool(one.wire.outgoing) or not one.wire.is_closed
        return True

    def _watch(self, one: _WebSocket) -> None:
        client = (select.EPOLLIN if one.reads_client else 0) | (select.EPOLLOUT if one.wire.outgoing else 0)
        self._set(one.client, client)
        if one.other.is_open and not one.wire.is_closing:
            other = (select.EPOLLIN if one.reads_other else 0) | (select.EPOLLOUT if one.talk.outgoing else 0)
            self._set(one.other, other)
        else:
            self._forget(one.other)

    def _set(self, side: _Side, mask: int) -> None:
        if side.mask == mask:
            return
        assert self._poller is not None
        watch = self._poller.register if side.mask is None else self._poller.modify
        watch(side.sock.fileno(), mask)
        side.mask = mask

    def _forget(self, side: _Side) -> None:
        if side.mask is not None:
            assert self._poller is not None
            self._poller.unregister(side.sock.fileno())
            side.mask = None

    def _look(self, now: float) -> None:
        for one in self._all():
            if one.is_late(now):
                self._remove(one)
            else:
                self._attend(one, lambda: None)

    def _remove(self, one: _WebSocket) -> None:
        for side in (one.client, one.other):
            self._forget(side)
            self._by_fd.pop(side.sock.fileno(), None)
        self._close(one)

    @staticmethod
    def _close(one: _WebSocket) -> None:
        one.talk.on_close()
        for side in (one.client, one.other):
            side.sock.close()


def _receive(sock: socket.socket) -> bytes | None:
    """Return what has come, nothing at the end, None if nothing has come yet."""
    try:
        return sock.recv(PIECE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _send(sock: socket.socket, data: bytearray) -> bool:
    """Send what the socket takes, and remove it. Returns whether that was anything. Raises OSError."""
    is_any = False
    with suppress(BlockingIOError):
        while data:
            sent = sock.send(memoryview(data)[:PIECE_BYTES])
            del data[:sent]
            is_any = True
    return is_any

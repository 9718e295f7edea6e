"""An answer on its way to the client: what the socket does not take at once waits in a file, without a thread.

A whole answer of more than SMALL_BYTES is written to an unlinked file as far as the socket did not take it, and the
loop sends it from there (`Leaving`). An answer that is made while it is sent (events, a download) is sent by its
thread, which then gives up its turn. Both must be read at a minimum rate.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gunicorn.http import wsgi  # type: ignore[import-untyped]

from api.http.concurrency import SMALL_BYTES
from api.server.bodies import Budget
from config.pieces import PIECE_BYTES
from config.turn import waiting

#: A larger rest is never kept in memory.
MOST_IN_MEMORY_BYTES = 1024 * 1024
#: The period in which a client must take a minimum of its answer.
RATE_WINDOW_S = 10.0
RATE_BYTES = 160 * 1024
#: The loop has other things to do between two pieces.
SEND_BYTES = 512 * 1024


class TooSlowError(OSError):
    """The client takes its answer more slowly than it must."""


@dataclass(frozen=True, slots=True)
class Room:
    """The files of unsent answers, with bounds on their size: in all, and for one client."""

    folder: Path | None
    budget: Budget
    whose: Hashable = ""


class Leaving:
    """The unsent rest of an answer, in a file. Used by one thread at a time."""

    def __init__(self, room: Room, size: int) -> None:
        """`size` bytes of the budget have been taken for it."""
        self._room, self._taken = room, size
        # Unlinked from the beginning: nothing is left behind if the process is killed.
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=room.folder, buffering=0)  # noqa: SIM115
        self._size = self._sent = 0
        self._rate = Rate()

    def add(self, data: bytes | memoryview) -> None:
        """Append bytes to send. Raises OSError when there is no room."""
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            view = view[written:]
            self._size += written

    def send(self, sock: socket.socket) -> bool:
        """Send what the socket takes. Returns whether that was the rest; raises OSError when the client is gone."""
        try:
            sent = os.sendfile(
                sock.fileno(), self._file.fileno(), self._sent, min(SEND_BYTES, self._size - self._sent)
            )
        except BlockingIOError:
            sent = 0
        self._sent += sent
        self._rate.note(sent)
        return self._sent >= self._size

    def is_too_slow(self) -> bool:
        """Return whether less was taken of late than must be."""
        return self._rate.is_too_slow()

    def close(self) -> None:
        """Forget the rest."""
        self._file.close()
        self._room.budget.release((self._room.whose,), self._taken)
        self._taken = 0


class Rate:
    """The bytes sent in each window of time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._sent = 0

    def note(self, size: int) -> None:
        """Count what was sent."""
        self._sent += size
        if self._sent >= RATE_BYTES:
            self._since, self._sent = self._clock(), 0

    def is_too_slow(self) -> bool:
        """Return whether a window has passed in which less was sent than must be."""
        return self._clock() - self._since > RATE_WINDOW_S


class Outbox:
    """Replaces the socket of an answer, and sends small writes together with those that follow soon."""

    def __init__(self, sock: socket.socket, room: Room | None) -> None:
        self._sock = sock
        self._room = room
        self.held: list[bytes] | None = None
        #: True if bytes that the socket does not accept may wait in a file.
        self.may_leave = False
        self.leaving: Leaving | None = None
        #: True if bytes that the socket does not accept are kept until `flush`, for an answer that is suspended.
        self.suspends = False
        self._unsent = bytearray()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any other attribute of a socket
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        """Send it, or hold it for a moment. Raises OSError, of which TooSlowError is one."""
        if self.held is not None:
            self.held.append(data)
        elif self.leaving is not None:
            self.leaving.add(data)
        elif self._unsent:
            self._unsent += data
        else:
            self._send(memoryview(data))

    def release(self) -> None:
        """Send what was held, as one piece."""
        held, self.held = self.held, None
        if held:
            self.sendall(held[0] if len(held) == 1 else b"".join(held))

    @property
    def is_blocked(self) -> bool:
        """Return whether something is kept that the socket did not accept."""
        return self.leaving is not None or bool(self._unsent)

    def flush(self) -> bool:
        """Send of what is kept as much as the socket accepts. Returns whether that was all; raises OSError."""
        if self.leaving is not None:
            if not self.leaving.send(self._sock):
                return False
            self.drop()
        while self._unsent:
            sent = self._send_some(memoryview(self._unsent)[:PIECE_BYTES])
            if not sent:
                return False
            del self._unsent[:sent]
        return True

    def drop(self) -> None:
        """Forget what is kept in a file."""
        if self.leaving is not None:
            self.leaving.close()
            self.leaving = None

    def _send(self, rest: memoryview) -> None:
        rest = rest[self._send_some(rest) :]
        if not rest:
            return
        if self.suspends:
            if len(rest) <= SMALL_BYTES or not self._leave(rest):
                self._unsent += rest
            return
        if self.may_leave and self._leave(rest):
            return
        with waiting():
            self._send_slowly(rest)

    def _leave(self, rest: memoryview) -> bool:
        """Keep the rest in a file. Returns False if there is no room and the thread must send the rest.

        Raises TooSlowError for a large rest: such a client would fill the memory.
        """
        room = self._room
        if room is None:
            return False
        if not room.budget.take((room.whose,), len(rest)):
            if len(rest) > MOST_IN_MEMORY_BYTES:
                raise TooSlowError("the client has too many answers that it has not read")
            return False
        leaving = Leaving(room, len(rest))
        try:
            leaving.add(rest)
        except OSError:
            leaving.close()
            return False
        self.leaving = leaving
        return True

    def _send_some(self, rest: memoryview) -> int:
        try:
            return self._sock.send(rest, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def _send_slowly(self, rest: memoryview) -> None:
        rate = Rate()
        poller = select.poll()
        poller.register(self._sock, select.POLLOUT)
        unread = unread_bytes(self._sock)
        while rest:
            poller.poll(RATE_WINDOW_S * 1000)
            rate.note(unread - unread_bytes(self._sock))
            if rate.is_too_slow():
                raise TooSlowError("the client takes too little of its answer")
            rest = rest[self._send_some(rest[:PIECE_BYTES]) :]
            unread = unread_bytes(self._sock)


def unread_bytes(sock: socket.socket) -> int:
    """Return how many bytes in the kernel's buffer the client has not taken; the kernel may enlarge the buffer."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


class HttpResponse(wsgi.Response):  # type: ignore[misc]  # gunicorn is untyped
    """An answer whose head goes with what comes first of its body, and whose rest may be left to the loop."""

    def __init__(self, req: object, sock: socket.socket, cfg: object, room: Room | None = None) -> None:
        super().__init__(req, Outbox(sock, room), cfg)
        self.outbox: Outbox = self.sock

    def write(self, arg: bytes) -> None:
        if self.headers_sent:
            super().write(arg)
            return
        self.outbox.may_leave = len(arg) > SMALL_BYTES and len(arg) == self.response_length
        self.outbox.held = []
        try:
            if len(arg) > PIECE_BYTES:  # not copied to go with its head
                self.send_headers()
                self.outbox.release()
            super().write(arg)
        finally:
            self.outbox.release()

"""One connection of a program: a channel of the sandbox's stream on one side, a socket to the egress process on the
other. Bytes are held only as far as a window goes that was granted.
"""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from sandbox import frames
from sandbox.frames import Frame, ProtocolError, frame

if TYPE_CHECKING:
    from pathlib import Path

#: The bytes that may be on their way to the program and not taken by it.
WINDOW_BYTES = 256 * 1024
GRANT_BYTES = frames.INITIAL_CREDIT // 4
CHUNK_BYTES = 64 * 1024
UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 65\r\n"
    b"Connection: close\r\n\r\nrunyard: the egress process does not answer; try again in a while"
)


class NetworkChannel:
    """The worker's end of one connection. Frames for the agent are appended to `outbox`."""

    def __init__(self, number: int, outbox: bytearray) -> None:
        self.number = number
        #: Bytes that were passed on, both ways together.
        self.moved = 0
        self._outbox = outbox
        self._pending = bytearray()
        #: The bytes in front of those that are the worker's own: they are neither counted nor granted again.
        self._own = 0
        self._credit = frames.INITIAL_CREDIT
        self._taken = 0
        self._unacknowledged = 0
        self._program_ended = False
        self._egress_ended = False
        self._is_opened = False
        self._socket: socket.socket | None = None

    def open(self, path: Path, opening: bytes) -> None:
        """Connect to the egress process at `path`, which is sent the line `opening` first."""
        self._is_opened = True
        self._pending[:0] = opening
        self._own = len(opening)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._socket.connect(str(path))
        except OSError:  # it does not run, or is full: the program gets the error of a proxy
            self._give_up()
        else:
            self._send()

    # -- polling -----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def wanted(self) -> int:
        """Return the events of poll(2) that matter now."""
        if self._socket is None:
            return 0
        reads = not self._egress_ended and self._unacknowledged < WINDOW_BYTES
        return (select.POLLIN if reads else 0) | (select.POLLOUT if self._pending else 0)

    def handle_event(self, event: int) -> None:
        """Move what can be moved."""
        if event & select.POLLOUT:
            self._send()
        if event & ~select.POLLOUT:
            self._receive()

    # -- from the sandbox --------------------------------------------------------------------------

    def handle_frame(self, item: Frame) -> None:
        """Take a frame of this channel. Raises ProtocolError for one that an honest agent does not send."""
        kind, payload = item.kind, item.payload
        if kind == frames.STDIN_TAKEN:
            count = frames.number(payload)
            if count > self._unacknowledged:
                raise ProtocolError("more taken than was sent")
            self._unacknowledged -= count
        elif self._program_ended:
            raise ProtocolError("a frame behind the end of a connection")
        elif kind == frames.STDOUT:
            if len(payload) > self._credit:
                raise ProtocolError("more sent than was granted")
            self._credit -= len(payload)
            self._pending += payload
            self._send()
        elif kind == frames.DATA_END:
            self._program_ended = True
            self._end_if_sent()
        else:
            raise ProtocolError("a frame out of place")

    def close(self) -> None:
        """Close the socket: the program's end is gone."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._pending.clear()

    # -- the socket --------------------------------------------------------------------------------

    def _send(self) -> None:
        if not self._is_opened:
            return
        if self._socket is None:
            self._granted(len(self._pending))
            self._pending.clear()
            return
        try:
            while self._pending:
                with memoryview(self._pending) as view:
                    sent = self._socket.send(view[:CHUNK_BYTES])
                del self._pending[:sent]
                self._granted(sent)
        except BlockingIOError:
            return
        except OSError:  # the egress process has closed; its last bytes are still to be read
            self._granted(len(self._pending))
            self._pending.clear()
        self._end_if_sent()

    def _granted(self, size: int) -> None:
        """Count bytes that were passed on, and let the program send as many more."""
        own = min(self._own, size)
        self._own -= own
        size -= own
        self.moved += size
        self._taken += size
        if self._taken >= GRANT_BYTES:
            self._credit += self._taken
            self._outbox += frame(frames.CREDIT, b"%d" % self._taken, self.number)
            self._taken = 0

    def _end_if_sent(self) -> None:
        if self._program_ended and not self._pending and self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.abort()

    def _receive(self) -> None:
        if self._socket is None or self._egress_ended:
            return
        room = min(CHUNK_BYTES, WINDOW_BYTES - self._unacknowledged)
        if room <= 0:
            return
        try:
            data = self._socket.recv(room)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if data:
            self.moved += len(data)
            self._to_program(data)
        else:
            self._egress_ended = True
            self._outbox += frame(frames.STDIN_END, b"", self.number)

    def _to_program(self, data: bytes) -> None:
        self._unacknowledged += len(data)
        self._outbox += frame(frames.STDIN, data, self.number)

    def _give_up(self) -> None:
        """Answer in place of an egress process that does not."""
        self.close()
        self._egress_ended = True
        self._to_program(UNAVAILABLE)
        self._outbox += frame(frames.STDIN_END, b"", self.number)

    def abort(self) -> None:
        """Have the agent close the program's end: the connection has broken off."""
        self.close()
        self._is_opened = self._egress_ended = True
        self._outbox += frame(frames.KILL, b"", self.number)

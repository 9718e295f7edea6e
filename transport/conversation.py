"""One end of a conversation: a local socket, and the two windows. Used by the link's thread alone."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from transport.frames import WireFrame
from transport.window import ReceiveWindow, SendWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from transport.loop import FdLoop

log = logging.getLogger(__name__)

#: Most that is sent is short; a longer read begins with one whose memory the allocator has at hand.
FIRST_READ_BYTES, READ_BYTES = 16 * 1024, 128 * 1024


class ConversationEnd:
    """Passes bytes between a local socket and the broker.

    `transmit` publishes a frame; a frame that is lost with the connection is sent again by `resume`.
    """

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        loop: FdLoop,
        transmit: Callable[[ConversationEnd, WireFrame], None],
        on_closed: Callable[[ConversationEnd], None],
    ) -> None:
        """`on_closed` is called once, when this side has nothing more to do with it."""
        sock.setblocking(False)
        self.name = name
        #: The queue of the other side, and its name among its kind.
        self.route = ""
        self.peer = ""
        self.heard_at = time.monotonic()
        self.is_open = True
        self.sending = SendWindow()
        self.receiving = ReceiveWindow()
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = loop
        self._transmit = transmit
        self._on_closed = on_closed
        self._events = 0

    def begin(self) -> None:
        """Pass on what is written to the local socket, from now on."""
        self._watch()

    def read(self) -> None:
        """Pass on what was written to the local socket already, without another turn of the loop."""
        self._on_event(self._fd, self._loop.READ)

    # -- from the other side -----------------------------------------------------------------------

    def receive(self, frame: WireFrame) -> None:
        """Take a frame of the kinds that carry bytes or credit. Raises OutsideWindow."""
        self.heard_at = time.monotonic()
        self.sending.acknowledge(frame.consumed)
        if frame.kind in ("data", "open"):
            if not self.receiving.receive(frame.offset, frame.payload, is_last=frame.is_last):
                self.ask_to_resume()
                return
            self._deliver()
        elif frame.kind in ("resume", "resumed"):
            if frame.kind == "resume":
                self._send(WireFrame("resumed"))
            self._send_again()
        if self.is_open:
            self._watch()

    def ask_to_resume(self) -> None:
        """Ask the other side to send what did not arrive, and whether it knows this conversation at all."""
        self._send(WireFrame("resume"))

    def _send_again(self) -> None:
        kept = self.sending.kept()
        if kept or self.sending.is_last_sent:
            last = self.sending.is_last_sent
            self._send(WireFrame("data", offset=self.sending.acked, payload=kept, is_last=last))

    # -- the local socket --------------------------------------------------------------------------

    def _on_event(self, _fd: int, events: int) -> None:
        try:
            if events & self._loop.WRITE:
                self._deliver()
            if self.is_open and events & ~self._loop.WRITE:
                self._read()
            if self.is_open:
                self._watch()
        except Exception:
            log.exception("a conversation failed")
            self.close()

    def _read(self) -> None:
        room = self.sending.room
        if room <= 0 or self.sending.is_last_sent:
            return
        data = bytearray()
        is_last = False
        while room > len(data) and not is_last:
            try:
                piece = self._sock.recv(min(room - len(data), READ_BYTES if data else FIRST_READ_BYTES))
            except BlockingIOError:
                break
            except OSError:  # closed with bytes of ours unread
                piece = b""
            data += piece
            is_last = not piece
        if not data and not is_last:
            return
        offset = self.sending.send(bytes(data))
        self.sending.is_last_sent = is_last
        self._send(WireFrame("data", offset=offset, payload=bytes(data), is_last=is_last))
        if is_last:  # the local program has closed its socket
            self.close()

    def _deliver(self) -> None:
        receiving = self.receiving
        try:
            while receiving.pending:
                sent = self._sock.send(receiving.pending)
                receiving.consume(sent)
        except BlockingIOError:
            pass
        except OSError:  # the local program has gone; `_read` finds that
            receiving.consume(len(receiving.pending))
        if receiving.is_last_received and not receiving.pending:
            self.close()
        elif receiving.owes_credit():
            self._send(WireFrame("credit"))

    def _send(self, frame: WireFrame) -> None:
        self._transmit(self, frame)

    def _watch(self) -> None:
        loop = self._loop
        events = loop.READ if self.sending.room > 0 and not self.sending.is_last_sent else 0
        if self.receiving.pending:
            events |= loop.WRITE
        if events == self._events:
            return
        if self._events == 0:
            loop.add_handler(self._fd, self._on_event, events)
        elif events == 0:  # a hang-up is reported although nothing is asked for: not watched at all
            loop.remove_handler(self._fd)
        else:
            loop.update_handler(self._fd, events)
        self._events = events

    def close(self) -> None:
        """Hang up the local socket and forget the conversation."""
        if not self.is_open:
            return
        self.is_open = False
        if self._events:
            self._loop.remove_handler(self._fd)
        with suppress(OSError):
            self._sock.close()
        self._on_closed(self)

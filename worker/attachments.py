"""Connections that are attached to processes, all of them served by one thread.

An attachment reads on in what is kept of its process's output, so that a reader who is slow holds up nothing:
output that is dropped meanwhile is missing for that reader alone, and is reported to it. Its client's input goes to
the process as that takes it; until then the connection is not read, so that no more than a few frames wait here.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from config.pieces import PIECE_BYTES
from protocol import attach
from protocol.attach import AttachBroken, AttachFrame, AttachParser
from protocol.session import TerminalSize
from sandbox.run.outcome import signal_name
from sandbox.sessions.session import SessionGone

if TYPE_CHECKING:
    from sandbox.sessions.processes import SessionProcess
    from sandbox.sessions.session import LiveSession

log = logging.getLogger(__name__)

#: Beyond this much unsent no more output is taken: the reader is behind.
UNSENT_HIGH = 256 * 1024
MOST_OF_A_PROCESS = 4
MOST = 1024
#: Of RFC 6455, 7.4.1.
NORMAL, GOING_AWAY = 1000, 1001


class TooManyAttachments(Exception):
    """The process, or the worker, has as many attachments as it may."""


class Attachment:
    """One connection to one process. All but the construction happens on the hub's thread."""

    def __init__(self, session: LiveSession, process: SessionProcess, sock: socket.socket, after: int) -> None:
        """Keep the session active. `after` is the last piece of output that is not wanted. Raises SessionGone."""
        self.session = session
        self.process = process
        self.sock = sock
        #: The events that the poller waits for; None before it knows the connection.
        self.mask: int | None = None
        #: True if nothing more is appended to the unsent bytes.
        self.is_ending = False
        self._after = after
        self._is_ready = False
        self._unsent = bytearray()
        self._parser = AttachParser(attach.TO_WORKER)
        self._frames: deque[AttachFrame] = deque()
        self._resources = ExitStack()
        self._resources.callback(sock.close)
        self._resources.enter_context(session.in_use(waits=True))  # a terminal hinders no pause

    def close(self) -> None:
        """Let the session and the connection go."""
        self._resources.close()

    @property
    def is_over(self) -> bool:
        """Return whether all has been sent that ever will be."""
        return self.is_ending and not self._unsent

    @property
    def wanted(self) -> int:
        """Return the events that are waited for now."""
        return (select.EPOLLOUT if self._unsent else 0) | (0 if self._frames or self.is_ending else select.EPOLLIN)

    # -- from the client ---------------------------------------------------------------------------

    def receive(self) -> bool:
        """Take what one read brings. Returns False when the peer has gone. Raises AttachBroken."""
        try:
            data = self.sock.recv(PIECE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            return False
        self._frames += self._parser.feed(data)
        self.feed()
        return True

    def feed(self) -> None:
        """Do what the client asked for, in order, as far as the process takes its input. Raises AttachBroken."""
        channel = self.process.channel
        while self._frames:
            kind, payload = self._frames.popleft()
            if kind == attach.INPUT:
                rest = payload[channel.write(payload) :]
                if rest:
                    self._frames.appendleft(AttachFrame(kind, rest))
                    return
            elif not self.process.is_alive:
                continue
            elif kind == attach.INPUT_END:
                channel.end_input()
            elif kind == attach.SIGNAL:
                channel.signal(*_numbers(payload, 1))
            else:
                channel.resize(TerminalSize(*_numbers(payload, 2)))

    # -- to the client -----------------------------------------------------------------------------

    def send(self) -> None:
        """Send what there is, as far as the socket takes it. Raises OSError when the peer has gone."""
        self._flush()
        while len(self._unsent) < UNSENT_HIGH and not self.is_ending and self._add():
            self._flush()

    def _add(self) -> bool:
        """Put more behind what is unsent. Returns whether there was anything."""
        process = self.process
        if not self._is_ready:
            if process.channel.pid is None and process.is_alive:
                return False
            self._is_ready = True
            self._unsent += attach.encode_text({"type": "ready", "pid": process.channel.pid})
        chunks, has_ended = process.after(self._after, UNSENT_HIGH)
        if chunks:
            if chunks[0].seq > self._after + 1:
                message: dict[str, object] = {"type": "info", "dropped_bytes": process.dropped_bytes}
                self._unsent += attach.encode_text(message)
            self._after = chunks[-1].seq
            for chunk in chunks:
                kind = attach.STDERR if chunk.kind == "stderr" else attach.STDOUT
                self._unsent += attach.encode(kind, chunk.data)
        elif has_ended:
            self._end()
        return bool(chunks) or has_ended

    def _end(self) -> None:
        self.is_ending = True
        reason = self.session.end_reason
        if reason is not None:
            self._unsent += attach.encode_close(GOING_AWAY, f"the session has ended: {reason}")
            return
        end = self.process.end
        number = None if end is None else end.signal_number
        message: dict[str, object] = {
            "type": "exit",
            "exit_code": None if end is None else end.exit_code,
            "signal": None if number is None else signal_name(number),
        }
        self._unsent += attach.encode_text(message) + attach.encode_close(NORMAL, "the process has ended")

    def _flush(self) -> None:
        with suppress(BlockingIOError):
            while self._unsent:
                sent = self.sock.send(memoryview(self._unsent)[:PIECE_BYTES])
                del self._unsent[:sent]


class AttachmentHub:
    """The thread that serves attachments; it is started with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._poller = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller.register(self._wake_fd, select.EPOLLIN)
        self._attached: dict[int, Attachment] = {}
        #: Those whose process has written output, or taken input.
        self._stirred: set[Attachment] = set()
        self._thread: threading.Thread | None = None

    def reserve(self, attachment: Attachment) -> None:
        """Count an attachment from now on; `begin` or `give_up` follows. Raises TooManyAttachments."""
        with self._lock:
            of_process = sum(other.process is attachment.process for other in self._attached.values())
            if of_process >= MOST_OF_A_PROCESS or len(self._attached) >= MOST:
                raise TooManyAttachments
            self._attached[attachment.sock.fileno()] = attachment

    def give_up(self, attachment: Attachment) -> None:
        """Close an attachment that was not begun."""
        with self._lock:
            del self._attached[attachment.sock.fileno()]
        attachment.close()

    def begin(self, attachment: Attachment) -> None:
        """Serve an attachment, and close it at its end."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="attachments", daemon=True)
                self._thread.start()
        attachment.process.add_listener(attachment, lambda: self._stir(attachment))
        self._stir(attachment)

    def _stir(self, attachment: Attachment) -> None:
        with self._lock:
            self._stirred.add(attachment)
        os.eventfd_write(self._wake_fd, 1)

    def _serve(self) -> None:
        while True:
            for fd, event in self._poller.poll():
                if fd == self._wake_fd:
                    with suppress(BlockingIOError):
                        os.eventfd_read(fd)
                    with self._lock:
                        stirred, self._stirred = self._stirred, set()
                    for attachment in stirred:
                        self._attend(attachment, 0)
                elif (found := self._attached.get(fd)) is not None:
                    self._attend(found, event)

    def _attend(self, attachment: Attachment, event: int) -> None:
        """Move what can be moved of one attachment, and close it if it is over."""
        if self._attached.get(attachment.sock.fileno()) is not attachment:
            return
        try:
            is_over = not self._move(attachment, event)
        except (OSError, AttachBroken, SessionGone):
            is_over = True
        except Exception:
            log.exception("an attachment could not be served")
            is_over = True
        if is_over:
            self._remove(attachment)

    def _move(self, attachment: Attachment, event: int) -> bool:
        if event & (select.EPOLLHUP | select.EPOLLERR):
            return False
        if event & select.EPOLLIN and not attachment.receive():
            return False
        attachment.feed()
        attachment.send()
        if attachment.is_over:
            return False
        wanted = attachment.wanted
        if wanted != attachment.mask:
            watch = self._poller.register if attachment.mask is None else self._poller.modify
            watch(attachment.sock.fileno(), wanted)
            attachment.mask = wanted
        return True

    def _remove(self, attachment: Attachment) -> None:
        attachment.process.remove_listener(attachment)
        with self._lock:
            del self._attached[attachment.sock.fileno()]
            self._stirred.discard(attachment)
        if attachment.mask is not None:
            self._poller.unregister(attachment.sock.fileno())
        attachment.close()


def _numbers(payload: bytes, count: int) -> list[int]:
    parts = payload.split(b" ")
    if len(parts) != count or not all(part.isdigit() and len(part) <= 5 for part in parts):
        raise AttachBroken("a control frame that is none")
    return [int(part) for part in parts]

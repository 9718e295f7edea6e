"""One answer that takes long, on its way to one client: what makes it, and what the client has not taken yet.

A thread moves it as far as it goes. Then it is suspended: until its source has more, until the client can take
more, or until a moment. Nothing more is made while the client has not taken what was made before.
"""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from api.http.long_answers import LateAnswer, LongAnswer
from api.server.answers import Rate, TooSlowError, unread_bytes
from config.logging import bind, bound
from config.turn import waiting

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from datetime import datetime

    from _typeshed.wsgi import WSGIEnvironment

    from api.server.answers import HttpResponse
    from dispatch.source import MessageSource

#: Milliseconds that a thread waits for what comes next before the answer is suspended: what answers at once, or
#: prints line after line, keeps its thread.
LINGER_MS = 100
GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def has_more(sock: socket.socket, lingerers: threading.Semaphore, source: MessageSource) -> bool:
    """Return whether more of an answer can be made without a wait, or after a short one on one of the `lingerers`.

    Also true if the client has gone, which its maker then sees. Raises ConnectionResetError where it would not.
    """
    poller = select.poll()
    poller.register(sock, GONE)
    if source.sleeps_until() is not None:
        if poller.poll(0):
            raise ConnectionResetError("the client has gone")
        return False
    fd = source.waits_on()
    if fd is None:
        return True
    poller.register(fd, select.POLLIN)
    if poller.poll(0):
        return True
    if not lingerers.acquire(blocking=False):
        return False
    try:
        with waiting():
            return bool(poller.poll(LINGER_MS))
    finally:
        lingerers.release()


class Relay:
    """An answer, and what it waits for while it is suspended. Used by one thread at a time."""

    def __init__(
        self,
        found: LongAnswer | LateAnswer,
        sock: socket.socket,
        answer: HttpResponse,
        environ: WSGIEnvironment,
        *,
        again: Callable[[], HttpResponse],
        began: datetime,
    ) -> None:
        """`again` makes another answer to the same request, in whose place it is sent."""
        self.answer = answer
        self.environ = environ
        self.began = began
        self.source = found.source
        self._found = found
        self._sock = sock
        self._again = again
        self._is_made = False
        self._fields = bound()
        #: While the client does not take what it is sent: how much of it, and what was untaken at the last look.
        self._rate: Rate | None = None
        self._unread = 0
        self._is_cut = False

    def move(self, lingerers: threading.Semaphore) -> bool:
        """Make and send what there is; return whether that was all. Raises what the making raises, and OSError.

        `lingerers` are the threads that may wait a little for more.
        """
        bind(**self._fields)
        if self._is_cut:
            raise TooSlowError("the client takes too little of its answer")
        self._sock.setblocking(False)
        self.answer.outbox.suspends = True
        while self._is_sent():
            if self._is_made:
                return True
            if not has_more(self._sock, lingerers, self.source):
                break
            if isinstance(self._found, LateAnswer):
                self._make_late(self._found)
            else:
                self._make_next(self._found)
        bind()
        return False

    def close(self) -> None:
        """End what makes the answer."""
        bind(**self._fields)
        self.answer.outbox.drop()
        self._found.close()

    # -- while it is suspended, on the loop's thread ------------------------------------------------

    @property
    def is_blocked(self) -> bool:
        """Return whether it waits for the client to take more."""
        return self.answer.outbox.is_blocked

    def is_too_slow(self) -> bool:
        """Return whether the client has taken less of late than it must."""
        self._note_taken()
        return self._rate is not None and self._rate.is_too_slow()

    def cut(self) -> None:
        """Have it end when it is moved next: its client is too slow."""
        self._is_cut = True

    # -- on a thread -------------------------------------------------------------------------------

    def _is_sent(self) -> bool:
        """Send what is unsent. Returns whether the socket took all of it."""
        self._note_taken()
        if self.answer.outbox.flush():
            self._rate = None
            return True
        self._rate = self._rate or Rate()
        self._unread = unread_bytes(self._sock)
        return False

    def _note_taken(self) -> None:
        if self._rate is not None:
            unread = unread_bytes(self._sock)
            self._rate.note(max(0, self._unread - unread))
            self._unread = unread

    def _make_next(self, found: LongAnswer) -> None:
        piece = found.take()
        if piece is None:
            self._is_made = True
            self.answer.close()
        elif piece:
            self.answer.write(piece)

    def _make_late(self, found: LateAnswer) -> None:
        self.answer = self._again()
        self.answer.outbox.suspends = True
        for piece in found.finish(self.answer.start_response):
            self.answer.write(piece)
        self.answer.close()
        self._is_made = True

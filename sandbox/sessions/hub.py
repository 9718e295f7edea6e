"""The one thread of the worker that serves the streams of all sessions: an idle session costs no thread."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.sessions.stream import SessionStream

log = logging.getLogger(__name__)

#: Streams that are served before it is looked again which are ready: each has one read in its turn.
TURN = 64


class SessionHub:
    """Polls streams; each is read once in its turn, so that none delays the others."""

    def __init__(self) -> None:
        self._poller = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller.register(self._wake_fd, select.EPOLLIN)
        self._lock = threading.Lock()
        self._streams: dict[int, SessionStream] = {}
        #: Streams with frames that the kernel has not taken.
        self._behind: set[int] = set()
        self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name="sessions", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; streams are not closed."""
        self._is_closing = True
        self.wake()
        self._thread.join()
        self._poller.close()
        os.close(self._wake_fd)

    def add(self, stream: SessionStream) -> None:
        """Serve a stream from now on."""
        with self._lock:
            self._streams[stream.fileno()] = stream
        self._poller.register(stream.fileno(), select.EPOLLIN)

    def remove(self, stream: SessionStream) -> None:
        """Serve a stream no more; it is closed after that. Without effect when repeated."""
        fd = stream.fileno()
        with self._lock:
            if self._streams.get(fd) is not stream:
                return
            del self._streams[fd]
            self._behind.discard(fd)
        with contextlib.suppress(OSError):
            self._poller.unregister(fd)

    def wake(self) -> None:
        """Have the thread look which streams have something to flush."""
        os.eventfd_write(self._wake_fd, 1)

    def _serve(self) -> None:
        while not self._is_closing:
            for fd, event in self._poller.poll(-1, TURN):
                if fd == self._wake_fd:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(fd)
                    self._look_for_unsent()
                    continue
                with self._lock:
                    stream = self._streams.get(fd)
                if stream is not None:
                    self._attend(stream, fd, event)

    def _attend(self, stream: SessionStream, fd: int, event: int) -> None:
        try:
            if event & select.EPOLLOUT:
                stream.flush()
                self._watch(stream, fd)
            if event & ~select.EPOLLOUT:
                stream.receive()
        except Exception:
            log.exception("a session's stream could not be served")
            stream.lose("the service failed")
        if stream.is_lost:
            self.remove(stream)

    def _look_for_unsent(self) -> None:
        with self._lock:
            streams = list(self._streams.items())
        for fd, stream in streams:
            if stream.has_unsent != (fd in self._behind):
                self._watch(stream, fd)

    def _watch(self, stream: SessionStream, fd: int) -> None:
        behind = stream.has_unsent
        mask = select.EPOLLIN | (select.EPOLLOUT if behind else 0)
        with self._lock:
            if fd not in self._streams:
                return
            (self._behind.add if behind else self._behind.discard)(fd)
        with contextlib.suppress(OSError):
            self._poller.modify(fd, mask)

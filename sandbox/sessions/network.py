"""The connections of one session's programs to the hosts that the session may reach."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from sandbox.frames import Frame, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.network import NetworkAccess
    from sandbox.network.relay import NetworkRelay

log = logging.getLogger(__name__)


class SessionNetwork:
    """Relays while there are connections, on a thread of its own, so that no other session waits for them.

    A session without connections has no thread. Any thread may call `arrived`, `change`, `drop` and `close`.
    """

    def __init__(
        self, relay: NetworkRelay, send: Callable[[bytes], None], on_breach: Callable[[str], None]
    ) -> None:
        """`send` takes frames for the agent; `on_breach` is called when the sandbox breaks the protocol."""
        self._relay = relay
        self._send = send
        self._on_breach = on_breach
        self._lock = threading.Lock()
        self._arrived: deque[Frame] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_serving = self._is_closed = self._drops = False

    @property
    def moved_bytes(self) -> int:
        """Return the bytes that were sent and received."""
        return self._relay.moved_bytes

    def arrived(self, item: Frame) -> None:
        """Take a frame of a connection, in the order in which they come."""
        with self._lock:
            if not self._is_closed:
                self._arrived.append(item)
                self._serve_on()

    def change(self, access: NetworkAccess) -> None:
        """Replace the hosts that may be reached; connections to hosts that are not permitted any more end."""
        if not self._relay.change(access):
            self.drop()

    def drop(self) -> None:
        """Break off every connection: the session freezes, or nobody can tell which of them are still permitted."""
        with self._lock:
            if not self._is_closed and self._is_serving:
                self._drops = True
                self._serve_on()

    def close(self) -> None:
        """End every connection; nothing more is taken. Without effect when repeated."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._is_serving:
                os.eventfd_write(self._wake_fd, 1)
            else:
                self._give_up()

    def _serve_on(self) -> None:
        """Have a thread look, with the lock held."""
        os.eventfd_write(self._wake_fd, 1)
        if not self._is_serving:
            self._is_serving = True
            threading.Thread(target=self._serve, name="session-network", daemon=True).start()

    def _give_up(self) -> None:
        self._relay.close()
        os.close(self._wake_fd)

    # -- the thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        problem = None
        try:
            while self._goes_on():
                self._turn()
        except ProtocolError as e:
            log.info("a session's proxy sent what is not allowed", extra={"reason": str(e)})
            problem = "the sandbox broke the protocol"
        except Exception:
            log.exception("the connections of a session could not be served")
            problem = "the service failed"
        if problem is not None:
            with self._lock:
                self._is_closed = True
                self._give_up()
            self._on_breach(problem)

    def _goes_on(self) -> bool:
        """Return whether there is anything to serve; if not, this thread ends and another begins when there is."""
        with self._lock:
            if self._is_closed:
                self._give_up()
                return False
            self._is_serving = bool(self._arrived) or self._relay.is_active
            return self._is_serving

    def _turn(self) -> None:
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        self._relay.register(poller)
        due = self._relay.due()
        for fd, event in poller.poll(None if due == math.inf else max(0.0, due - time.monotonic()) * 1000 + 0.5):
            if fd == self._wake_fd:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(fd)
            else:
                self._relay.handle_event(fd, event)
        with self._lock:
            items, self._arrived = self._arrived, deque()
            drops, self._drops = self._drops, False
        for item in items:
            self._relay.handle_frame(item)
        if drops:
            self._relay.abort()
        if self._relay.outbox:
            data = bytes(self._relay.outbox)
            self._relay.outbox.clear()
            self._send(data)

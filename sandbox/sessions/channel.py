"""One channel of a session's stream: a process or a file operation in its sandbox, as a worker thread uses it.

The hub's thread puts in what arrives; the channel's user takes it out, on any one thread, and by that grants
the sandbox more. Nothing that the sandbox says is taken beyond the credit it was granted.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from sandbox import frames
from sandbox.agent_client.stdin import WINDOW_BYTES
from sandbox.frames import Frame, ProtocolError, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.session import TerminalSize

#: The credit is granted again when so much has been taken out.
GRANT_BYTES = frames.INITIAL_CREDIT // 4
#: The streams that a channel carries to its user; replies are a kernel's alone.
OUTPUTS = {frames.STDOUT: "stdout", frames.STDERR: "stderr", frames.REPLY: "reply"}


class ChannelEnded(Exception):
    """The session has ended, or its sandbox is broken: nothing more will come on the channel."""


class ProcessEnd(NamedTuple):
    """The end of a channel's main process; `failed` says why it could not be started."""

    exit_code: int | None = None
    signal_number: int | None = None
    failed: str | None = None


class SessionChannel:
    """The worker's end of one channel. `send` is the stream's, which takes whole frames in order."""

    def __init__(self, number: int, send: Callable[[bytes], None], *, is_kernel: bool = False) -> None:
        """`is_kernel`: it may send replies."""
        self.number = number
        self._is_kernel = is_kernel
        #: Called by the hub's thread when something has arrived, or the session has ended.
        self.on_arrival: Callable[[], None] | None = None
        #: Called by the hub's thread when the process has taken of its input, so that there may be room for more.
        self.on_room: Callable[[], None] | None = None
        self.pid: int | None = None
        #: The end of the main process; None while it has not, or its output has not been taken out.
        self.end: ProcessEnd | None = None
        #: True once nothing of the task is alive, so that the number is free again.
        self.is_closed = False
        self._send = send
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._arrived: deque[Frame] = deque()
        self._credit = frames.INITIAL_CREDIT
        self._taken = 0
        self._unacknowledged = 0
        self._has_exited = False
        self._is_lost = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return a descriptor that is readable while something waits to be taken out."""
        return self._wake_fd

    @property
    def is_lost(self) -> bool:
        """Return whether the session has ended: nobody hears what is sent."""
        return self._is_lost

    # -- for the hub -------------------------------------------------------------------------------

    def arrived(self, item: Frame) -> None:
        """Put in a frame of this channel. Raises ProtocolError for one that an honest agent does not send."""
        kind, payload = item.kind, item.payload
        if kind == frames.STDIN_TAKEN:
            self._input_taken(frames.number(payload))
            return
        unwanted = 0
        with self._lock:
            if kind == frames.CLOSED:
                if not self._has_exited:
                    raise ProtocolError("a channel closed before its main process ended")
                self.is_closed = True
            elif self._has_exited:
                raise ProtocolError("a frame behind the end of a main process")
            elif kind in OUTPUTS:
                self._check_output(kind, len(payload))
                self._credit -= len(payload)
                unwanted = self._unwanted(len(payload))
            elif kind == frames.EXIT:
                self._has_exited = True
            elif kind == frames.STARTED:
                self.pid = frames.number(payload)
            if self._wake_fd >= 0:
                self._put(item)
            call = self.on_arrival
        if unwanted:
            self._send(frame(frames.CREDIT, b"%d" % unwanted, self.number))
        if call is not None:
            call()

    def _check_output(self, kind: bytes, size: int) -> None:
        if kind == frames.REPLY and not self._is_kernel:
            raise ProtocolError("a reply of what is no kernel")
        if size > self._credit:
            raise ProtocolError("more output than was granted")

    def lost(self) -> None:
        """End the channel together with its session."""
        with self._lock:
            self._is_lost = True
            self._wake()
            call = self.on_arrival
        if call is not None:
            call()

    def close(self) -> None:
        """Give the descriptor back; the channel is not used any more.

        Data that arrive from now on are dropped, and granted again: without credit its end would not arrive either.
        """
        unwanted = 0
        with self._lock:
            if self._wake_fd >= 0:
                os.close(self._wake_fd)
                self._wake_fd = -1
                waiting = sum(len(item.payload) for item in self._arrived if item.kind in OUTPUTS)
                unwanted = self._unwanted(waiting + self._taken)
                self._taken = 0
            is_over = self._has_exited or self._is_lost
        if unwanted and not is_over:
            self._send(frame(frames.CREDIT, b"%d" % unwanted, self.number))

    def _unwanted(self, size: int) -> int:
        """Return how much of output that has arrived must be granted at once, since nobody takes it."""
        if self._wake_fd >= 0:
            return 0
        self._credit += size
        return size

    def _input_taken(self, size: int) -> None:
        """Count input that the process has taken. Raises ProtocolError for more than was sent."""
        with self._lock:
            self._acknowledge(size)
            call = self.on_room
        if call is not None:
            call()

    def _put(self, item: Frame) -> None:
        self._arrived.append(item)
        self._wake()

    def _wake(self) -> None:
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)
        self._change.notify_all()

    def _acknowledge(self, count: int) -> None:
        if count > self._unacknowledged:
            raise ProtocolError("more stdin taken than was sent")
        self._unacknowledged -= count
        self._wake()

    # -- for its user ------------------------------------------------------------------------------

    def take(self) -> list[tuple[str, bytes]]:
        """Take out what has arrived, without waiting: output as (`stdout`, `stderr` or `reply`, bytes).

        `pid`, `end` and `is_closed` are then up to date. Raises ChannelEnded once all that came before is taken.
        """
        found: list[tuple[str, bytes]] = []
        with self._lock:
            if self._wake_fd >= 0:
                _drain(self._wake_fd)
            if self._is_lost and not self._arrived:
                raise ChannelEnded
            items, self._arrived = self._arrived, deque()
            for item in items:
                if item.kind in OUTPUTS:
                    found.append((OUTPUTS[item.kind], item.payload))
                    self._taken += len(item.payload)
                elif item.kind == frames.EXIT:
                    self.end = _end_of(item.payload)
            grant = self._taken if self._taken >= GRANT_BYTES and self.end is None else 0
            self._taken -= grant
            self._credit += grant
            if self._is_lost and self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)
        if grant:
            self._send(frame(frames.CREDIT, b"%d" % grant, self.number))
        return found

    def wait(self, timeout_s: float) -> bool:
        """Wait until something can be taken out. Returns whether."""
        with self._change:
            return self._change.wait_for(lambda: bool(self._arrived) or self._is_lost, timeout_s)

    def write(self, data: bytes) -> int:
        """Send as much of the input as the window takes now; returns how many bytes that is."""
        with self._lock:
            size = min(len(data), WINDOW_BYTES - self._unacknowledged)
            if self._has_exited or self._is_lost:
                return len(data)  # nobody reads it any more
            self._unacknowledged += size
        if size:
            self._send(frame(frames.STDIN, data[:size], self.number))
        return size

    def write_all(self, data: bytes, timeout_s: float) -> bool:
        """Send all of the input, waiting at most `timeout_s` for room. Returns whether all was sent."""
        left = memoryview(data)
        while left:
            size = self.write(bytes(left[:WINDOW_BYTES]))
            left = left[size:]
            if not size:
                with self._change:
                    if not self._change.wait_for(self._has_room, timeout_s):
                        return False
        return True

    def _has_room(self) -> bool:
        return self._unacknowledged < WINDOW_BYTES or self._has_exited or self._is_lost

    def end_input(self) -> None:
        """End the input: after the sent bytes the process reads end-of-file."""
        self._send(frame(frames.STDIN_END, b"", self.number))

    def signal(self, number: int) -> None:
        """Send a signal to the main process."""
        self._send(frame(frames.SIGNAL, b"%d" % number, self.number))

    def resize(self, size: TerminalSize) -> None:
        """Set the size of the terminal, if the process has one."""
        self._send(frame(frames.RESIZE, size.encode(), self.number))

    def kill(self) -> None:
        """Kill everything of the task, also after fork and setsid."""
        self._send(frame(frames.KILL, b"", self.number))


def _end_of(payload: bytes) -> ProcessEnd:
    kind, text = frames.unpack(payload, 2)
    if kind == b"failed":
        return ProcessEnd(failed=text.decode("utf-8", "replace"))
    value = frames.number(text, 255)
    if kind == b"exit":
        return ProcessEnd(exit_code=value)
    if kind == b"signal" and 0 < value <= 64:
        return ProcessEnd(signal_number=value)
    raise ProtocolError("an end that cannot be")


def _drain(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return

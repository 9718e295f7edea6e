"""One kernel of a session, as the worker uses it: cells in, output and messages out, one cell at a time."""

from __future__ import annotations

import select
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from config.pieces import PIECE_BYTES
from sandbox.sessions.channel import ChannelEnded, ProcessEnd
from sandbox.sessions.kernel_replies import KernelBroken, KernelMessage, ReplyParser, encode_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.sessions.channel import SessionChannel

#: From the start of a kernel to its first reply, where no run waits for it, whose own time bounds that.
READY_TIMEOUT_S = 30.0
#: A kernel that was killed has closed its channel within this time.
KILLED_S = 5.0


class KernelEnded(Exception):
    """The kernel has ended, or was ended because it broke the protocol. `end` is how its process ended."""

    def __init__(self, end: ProcessEnd) -> None:
        super().__init__()
        self.end = end


class Kernel:
    """A kernel whose process has been started. One thread at a time uses it; `interrupt` and `kill` are for any."""

    def __init__(self, channel: SessionChannel) -> None:
        self._channel = channel
        self._parser = ReplyParser()
        self._lock = threading.Lock()
        #: True while a cell is under way: output that arrives otherwise is of no run, and dropped.
        self._is_busy = True
        self.is_over = False
        channel.on_arrival = self._drop

    # -- for any thread ----------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Send SIGINT to the kernel: it ends its cell, if one is under way."""
        self._channel.signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill its whole tree."""
        self._channel.kill()

    def _drop(self) -> None:
        """Drop what arrives between cells, on the hub's thread, so that nothing in the kernel is held up."""
        with self._lock:
            if self._is_busy:
                return
            try:
                replies = [data for name, data in self._channel.take() if name == "reply"]
                deque(self._parser.feed(b"".join(replies), keep=False), maxlen=0)
            except (ChannelEnded, KernelBroken):
                self.is_over = True
            if self._channel.end is not None:
                self.is_over = True

    # -- for the thread that uses it ---------------------------------------------------------------

    def ask(
        self,
        header: Mapping[str, Any],
        parts: Mapping[str, bytes],
        *,
        last: str,
        on_output: Callable[[str, bytes], None],
        on_message: Callable[[KernelMessage], None],
        between: Callable[[SessionChannel], bool],
    ) -> KernelMessage:
        """Send a request, and return the reply of type `last`; output and other replies are passed on.

        `between` is called again and again: it waits until something arrives on the channel, or for less, and
        returns whether that may be taken now. If it raises, the kernel must not be used again.
        Raises KernelEnded, and ChannelEnded with the session.
        """
        with self._lock:
            self._is_busy = True
            if self.is_over:
                raise KernelEnded(self._channel.end or ProcessEnd(signal_number=signal.SIGKILL))
        try:
            return self._answer(encode_message(header, parts), last, on_output, on_message, between)
        finally:
            with self._lock:
                self._is_busy = False
            self._drop()

    def wait_until_ready(
        self,
        on_output: Callable[[str, bytes], None],
        between: Callable[[SessionChannel], bool],
        within_s: float | None,
    ) -> None:
        """Wait for the first reply; `on_output` gets what one writes that cannot start. `between` is as of `ask`.

        The kernel is killed if the reply does not come `within_s`; None leaves that to `between`. Code that the
        program's environment and files have an interpreter execute at its start runs in this time.
        `is_over` is then up to date. Raises KernelEnded, and ChannelEnded with the session.
        """
        deadline = float("inf") if within_s is None else time.monotonic() + within_s

        def in_time(channel: SessionChannel) -> bool:
            if time.monotonic() > deadline:
                raise self._ended_by_us()
            return between(channel)

        self._answer(b"", "ready", on_output, lambda _message: None, in_time)
        with self._lock:
            self._is_busy = False
        self._drop()  # one that was started long ago may have ended since

    def _answer(
        self,
        request: bytes,
        last: str,
        on_output: Callable[[str, bytes], None],
        on_message: Callable[[KernelMessage], None],
        between: Callable[[SessionChannel], bool],
    ) -> KernelMessage:
        """Write a request, and read up to the reply of type `last`: see `ask`."""
        rest = memoryview(request)
        try:
            while True:
                rest = rest[self._channel.write(bytes(rest[:PIECE_BYTES])) :] if rest else rest
                if not between(self._channel):
                    continue
                answer = None
                for item in self._take():
                    if not isinstance(item, KernelMessage):
                        on_output(*item)
                    elif item.header.get("type") == last:
                        answer = answer or item
                    elif answer is None:
                        on_message(item)
                if answer is not None:
                    return answer
                if self._channel.end is not None:
                    self.is_over = True
                    raise KernelEnded(self._channel.end)
        except KernelBroken as e:
            raise self._ended_by_us() from e

    def close(self) -> None:
        """Kill it, and give its channel back. Without effect when repeated."""
        self.is_over = True
        with self._lock:
            self._is_busy = True
        if self._channel.end is None and not self._channel.is_lost:
            self._channel.kill()
        self._channel.on_arrival = None
        self._channel.close()

    def wait_for_end(self) -> ProcessEnd:
        """Wait for the end of one that was killed. Raises ChannelEnded with the session."""
        deadline = time.monotonic() + KILLED_S
        while self._channel.end is None and self._channel.wait(max(0.0, deadline - time.monotonic())):
            self._channel.take()
        self.is_over = True
        return self._channel.end or ProcessEnd(signal_number=signal.SIGKILL)

    def _ended_by_us(self) -> KernelEnded:
        self._channel.kill()
        return KernelEnded(self.wait_for_end())

    def _take(self) -> list[KernelMessage | tuple[str, bytes]]:
        """Take out what has arrived, in its order: messages, and names and bytes of output.

        Raises KernelBroken, and ChannelEnded with the session.
        """
        found: list[KernelMessage | tuple[str, bytes]] = []
        for name, data in self._channel.take():
            if name == "reply":
                found.extend(self._parser.feed(data))
            else:
                found.append((name, data))
        return found


def wait_readable(channel: SessionChannel, timeout_s: float) -> None:
    """Wait until something can be taken out of a channel."""
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    poller.poll(max(0.0, timeout_s) * 1000)

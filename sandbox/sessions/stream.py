"""The stream of a session's sandbox: channels by number, frames in and out, never blocking."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from config.pieces import PIECE_BYTES
from sandbox import frames
from sandbox.frames import FrameParser, ProtocolError, frame, pack
from sandbox.sessions.channel import SessionChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandbox.engines import Stream

log = logging.getLogger(__name__)

#: Channels of one session that are not closed: of processes, and of all together. File operations work besides.
MOST_PROCESSES = 64
MOST_CHANNELS = MOST_PROCESSES + 16
#: Numbers go round, so that what is late for a closed channel finds no other in its place.
HIGHEST_CHANNEL = 2**16 - 1


class TooManyChannels(Exception):
    """The session has as many processes and file operations as one may."""


class SessionStream:
    """The channels of one session. The hub reads it and flushes it; any thread may open a channel or send."""

    def __init__(self, stream: Stream, *, on_change: Callable[[], None], on_lost: Callable[[str], None]) -> None:
        """`on_change` is called when there is something to flush, `on_lost` once with why the stream has ended."""
        self._stream = stream
        self._on_change = on_change
        self._on_lost = on_lost
        self._parser = FrameParser(in_session=True)
        self._lock = threading.Lock()
        self._channels: dict[int, SessionChannel] = {}
        self._unsent = bytearray()
        self._last = 0
        self.is_lost = False
        stream.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._stream.fileno()

    @property
    def has_unsent(self) -> bool:
        """Return whether frames wait for the kernel to take them."""
        return bool(self._unsent)

    @property
    def open_channels(self) -> int:
        """Return how many channels are not closed."""
        return len(self._channels)

    # -- for any thread ----------------------------------------------------------------------------

    def start_process(self, argv: Sequence[bytes], env: Mapping[bytes, bytes], cwd: bytes) -> SessionChannel:
        """Start a process. Raises TooManyChannels; a start that fails is told by the channel's end."""
        pairs = [name + b"=" + value for name, value in env.items()]
        return self._open([b"process", cwd, pack(argv), pack(pairs)], MOST_PROCESSES)

    def start_operation(self, name: bytes, *arguments: bytes) -> SessionChannel:
        """Start a file operation (`runners/agent/session/files.py`). Raises TooManyChannels."""
        return self._open([b"operation", name, pack(arguments)], MOST_CHANNELS)

    def _open(self, parts: list[bytes], most: int) -> SessionChannel:
        with self._lock:
            if len(self._channels) >= most:
                raise TooManyChannels
            number = self._next_number()
            channel = SessionChannel(number, self._send)
            self._channels[number] = channel
            is_lost = self.is_lost
        if is_lost:
            channel.lost()
        else:
            self._send(frame(frames.OPEN, pack(parts), number))
        return channel

    def _next_number(self) -> int:
        while True:
            self._last = self._last % HIGHEST_CHANNEL + 1
            if self._last not in self._channels:
                return self._last

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._unsent += data
            self._flush()
            if not self._unsent:
                return
        self._on_change()

    # -- for the hub -------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send as much of what is unsent as the kernel takes now."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = self._stream.send(memoryview(self._unsent)[:PIECE_BYTES])
                del self._unsent[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # reading finds out that the sandbox is gone

    def receive(self) -> None:
        """Take what one read brings. A sandbox that breaks the protocol, or hangs up, has lost its session."""
        try:
            data = self._stream.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lose("the sandbox has ended")
            return
        try:
            for item in self._parser.feed(data):
                self._take(item.channel, item)
        except ProtocolError as e:
            log.info("a session's sandbox sent what is not allowed", extra={"reason": str(e)})
            self.lose("the sandbox broke the protocol")

    def _take(self, number: int, item: frames.Frame) -> None:
        with self._lock:
            channel = self._channels.get(number)
        if channel is None:
            raise ProtocolError(f"a frame on channel {number}, which is not open")
        channel.arrived(item)
        if channel.is_closed:
            with self._lock:
                del self._channels[number]

    def lose(self, why: str) -> None:
        """End every channel: nothing more comes of this sandbox. Without effect when repeated."""
        with self._lock:
            if self.is_lost:
                return
            self.is_lost = True
            channels = list(self._channels.values())
            self._channels.clear()
        for channel in channels:
            channel.lost()
        self._on_lost(why)

"""The stream of a session's sandbox: channels by number, frames in and out, never blocking."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from config.pieces import PIECE_BYTES
from sandbox import frames
from sandbox.frames import FrameParser, ProtocolError, frame, pack
from sandbox.sessions.channel import SessionChannel
from sandbox.sessions.network import SessionNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from protocol.session import TerminalSize
    from sandbox.engines import Stream
    from sandbox.network.relay import NetworkRelay

log = logging.getLogger(__name__)

#: Channels of one session that are not closed: of processes, and of all together. File operations work besides.
MOST_PROCESSES = 64
MOST_CHANNELS = MOST_PROCESSES + 16
#: The file operations that change nothing.
LOOKING = frozenset((b"stat", b"read", b"list", b"pack", b"watch"))
WORK = b"/work"
#: Numbers go round, so that what is late for a closed channel finds no other in its place.
HIGHEST_CHANNEL = frames.FIRST_NETWORK_CHANNEL - 1


class TooManyChannels(Exception):
    """The session has as many processes and file operations as one may."""


class SessionStream:
    """The channels of one session. The hub reads it and flushes it; any thread may open a channel or send."""

    def __init__(
        self,
        stream: Stream,
        *,
        on_change: Callable[[], None],
        on_lost: Callable[[str], None],
        relay: NetworkRelay | None = None,
    ) -> None:
        """`on_change` is called when there is something to flush, `on_lost` once with why the stream has ended.

        `relay` takes the connections of the session's programs, if it may reach any host.
        """
        self.network = None if relay is None else SessionNetwork(relay, self.send_frames, self.lose)
        self._stream = stream
        self._on_change = on_change
        self._on_lost = on_lost
        self._parser = FrameParser(in_session=True, has_network=relay is not None)
        self._lock = threading.Lock()
        self._channels: dict[int, SessionChannel] = {}
        #: The numbers of those that are processes.
        self._processes: set[int] = set()
        #: The number of a kernel that was started before anybody asked for it. It counts for nothing.
        self._ahead: int | None = None
        self._unsent = bytearray()
        self._last = 0
        self.is_lost = False
        #: The number of operations begun in the sandbox that may change a file.
        self.changes = 0
        #: The number of processes that were started.
        self.started_processes = 0
        #: The path by which programs find /work.
        self.workdir = WORK
        #: Called before something is signalled to end, on that thread: frozen, it would not get the signal.
        self.before_kill: Callable[[], None] = lambda: None
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
        """Return how many channels are not closed, without a kernel that nobody has asked for."""
        return len(self._channels) - (self._ahead is not None)

    @property
    def has_processes(self) -> bool:
        """Return whether a process, or what one has left behind, is alive."""
        return bool(self._processes)

    @property
    def is_quiet(self) -> bool:
        """Return whether no process and no file operation is under way."""
        return not self.open_channels

    # -- for any thread ----------------------------------------------------------------------------

    def start_process(
        self,
        argv: Sequence[bytes],
        env: Mapping[bytes, bytes],
        cwd: bytes,
        terminal: TerminalSize | None = None,
    ) -> SessionChannel:
        """Start a process, on a terminal of that size or on pipes.

        Raises TooManyChannels; a start that fails is reported by the channel's end.
        """
        cwd, pairs = self._placed(cwd, env)
        size = b"" if terminal is None else terminal.encode()
        return self._open([b"process", cwd, pack(argv), pairs, size], MOST_PROCESSES, is_process=True)

    def start_kernel(
        self,
        argv: Sequence[bytes],
        env: Mapping[bytes, bytes],
        cwd: bytes,
        *,
        may_fork: bool,
        is_ahead: bool = False,
    ) -> SessionChannel:
        """Start a kernel (`docs/kernels.md`). `may_fork`: it may be a fork of the sandbox's own interpreter.

        `is_ahead`: nobody has asked for it before `claim_kernel`, and there is one at most.
        Raises TooManyChannels; a start that fails is reported by the channel's end.
        """
        cwd, pairs = self._placed(cwd, env)
        parts = [b"kernel", cwd, pack(argv), pairs, b"%d" % may_fork]
        return self._open(parts, MOST_PROCESSES, is_kernel=True, is_ahead=is_ahead)

    def claim_kernel(self) -> None:
        """Have the kernel that was started ahead count as any other."""
        with self._lock:
            self._ahead = None

    def _placed(self, cwd: bytes, env: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
        """Return a process's directory as its programs are to see it, and its variables, packed."""
        if cwd == WORK or cwd.startswith(WORK + b"/"):
            cwd = self.workdir + cwd[len(WORK) :]
        self.changes += 1
        return cwd, pack([name + b"=" + value for name, value in {b"PWD": cwd, **env}.items()])

    def start_operation(self, name: bytes, *arguments: bytes) -> SessionChannel:
        """Start a file operation (`runners/agent/session/files.py`). Raises TooManyChannels."""
        if name not in LOOKING:
            self.changes += 1
        return self._open([b"operation", name, pack(arguments)], MOST_CHANNELS)

    def start_network(self, relay: NetworkRelay, env: Mapping[str, str]) -> SessionChannel:
        """Have the agent start the proxy, in a session that was created without one; the outcome is reported by the
        channel's end.

        `env` are the variables by which programs that start later find it. Raises TooManyChannels.
        """
        network = SessionNetwork(relay, self.send_frames, self.lose)
        with self._lock:
            self.network = network
            is_lost = self.is_lost
        if is_lost:
            network.close()
        self._parser.expect_network()
        pairs = [f"{name}={value}".encode() for name, value in env.items()]
        try:
            return self._open([b"network", pack(pairs)], MOST_CHANNELS)
        except TooManyChannels:
            self.withdraw_network()
            raise

    def withdraw_network(self) -> None:
        """Take back what `start_network` did, where the agent could not start the proxy."""
        with self._lock:
            network, self.network = self.network, None
        if network is not None:
            network.close()

    def drop_connections(self) -> None:
        """Break off every connection to another machine: the session freezes."""
        network = self.network
        if network is not None:
            network.drop()

    def _open(
        self,
        parts: list[bytes],
        most: int,
        *,
        is_process: bool = False,
        is_kernel: bool = False,
        is_ahead: bool = False,
    ) -> SessionChannel:
        with self._lock:
            if self.open_channels >= most:
                raise TooManyChannels
            number = self._next_number()
            if is_ahead:
                self._ahead = number
            channel = SessionChannel(number, self._send, is_kernel=is_kernel)
            self._channels[number] = channel
            if is_process:
                self._processes.add(number)
                self.started_processes += 1
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
        if data.startswith(frames.KILL):
            self.before_kill()
        self.send_frames(data)

    def send_frames(self, data: bytes) -> None:
        """Send whole frames, as much of them as the kernel takes now; a frozen session is not thawed for them."""
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
        if self.network is not None and number >= frames.FIRST_NETWORK_CHANNEL:
            self.network.arrived(item)
            return
        with self._lock:
            channel = self._channels.get(number)
        if channel is None:
            raise ProtocolError(f"a frame on channel {number}, which is not open")
        channel.arrived(item)
        if channel.is_closed:
            with self._lock:
                del self._channels[number]
                self._processes.discard(number)
                if self._ahead == number:
                    self._ahead = None

    def lose(self, why: str) -> None:
        """End every channel: nothing more comes of this sandbox. Without effect when repeated."""
        with self._lock:
            if self.is_lost:
                return
            self.is_lost = True
            channels = list(self._channels.values())
            self._channels.clear()
            self._processes.clear()
            self._ahead = None
        if self.network is not None:
            self.network.close()
        for channel in channels:
            channel.lost()
        self._on_lost(why)

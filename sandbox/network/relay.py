"""The connections of one sandbox: opened by its agent, relayed to the egress process, counted."""

from __future__ import annotations

import math
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import orjson

from sandbox import frames
from sandbox.frames import Frame, ProtocolError
from sandbox.network.channel import NetworkChannel
from sandbox.network.question import ask_egress

if TYPE_CHECKING:
    from pathlib import Path

    from protocol.network import NetworkAccess

#: Connections that are not closed. The egress process permits fewer, and tells the program so.
MOST_CHANNELS = 64
#: New connections in a second, and at once; more wait here, where they cost nobody else anything.
NEW_PER_S, BURST = 20.0, 20.0


class NetworkRelay:
    """Relays for one run or session. Used by one thread; `outbox` holds frames for the agent."""

    def __init__(
        self, path: Path, subject: str, key: str, access: NetworkAccess, *, for_build: bool = False
    ) -> None:
        """`path` is the socket of the egress process, `subject` the id of the run, session or layer.

        `for_build`: the hosts are registries, which may be reached at any address.
        """
        self.outbox = bytearray()
        self._path = path
        self._subject = subject
        self._key = key or "none"
        self._for_build = for_build
        #: The patterns, and the number of their changes: both are read and replaced together.
        self._permitted = access, 0
        self._channels: dict[int, NetworkChannel] = {}
        self._by_fd: dict[int, NetworkChannel] = {}
        self._waiting: deque[NetworkChannel] = deque()
        self._tokens, self._refilled_at = BURST, time.monotonic()
        self._moved_before = 0
        self._is_closed = False

    @property
    def moved_bytes(self) -> int:
        """Return the bytes that were sent and received, of all connections."""
        return self._moved_before + sum(channel.moved for channel in list(self._channels.values()))

    @property
    def is_active(self) -> bool:
        """Return whether a connection is open, or waits to be."""
        return bool(self._waiting) or any(channel.fileno() >= 0 for channel in self._channels.values())

    def change(self, access: NetworkAccess) -> bool:
        """Replace the patterns, for open connections too; may be called by any thread.

        Returns False if the egress process does not answer: then connections may live on that are not permitted.
        """
        self._permitted = access, self._permitted[1] + 1
        return ask_egress(self._path, self._line("change")) is not None

    def abort(self) -> None:
        """Break off every connection: its program's end is closed too."""
        self._waiting.clear()
        for channel in self._channels.values():
            channel.abort()

    def register(self, poller: select.poll) -> None:
        """Open the connections whose turn it is, and have a poller wait for what matters now."""
        self._open_waiting()
        self._by_fd.clear()
        for channel in self._channels.values():
            wanted = channel.wanted
            if wanted:
                fd = channel.fileno()
                poller.register(fd, wanted)
                self._by_fd[fd] = channel

    def due(self) -> float:
        """Return when the next connection that waits is to be opened, on the monotonic clock."""
        return self._refilled_at + (1 - self._tokens) / NEW_PER_S if self._waiting else math.inf

    def handle_event(self, fd: int, event: int) -> bool:
        """Move what can be moved. False if the descriptor is none of a connection."""
        channel = self._by_fd.get(fd)
        if channel is None:
            return False
        channel.handle_event(event)
        return True

    def handle_frame(self, item: Frame) -> None:
        """Take a frame on a channel of a connection. Raises ProtocolError."""
        if self._is_closed:
            return
        channel = self._channels.get(item.channel)
        if item.kind == frames.CONNECTED:
            if channel is not None or len(self._channels) >= MOST_CHANNELS:
                raise ProtocolError("a connection on a channel that is open, or too many connections")
            channel = self._channels[item.channel] = NetworkChannel(item.channel, self.outbox)
            self._waiting.append(channel)
        elif channel is None:
            raise ProtocolError(f"a frame on channel {item.channel}, which is not open")
        elif item.kind == frames.CLOSED:
            self._close(channel)
        else:
            channel.handle_frame(item)

    def close(self) -> None:
        """Close every connection; frames that are late are passed over."""
        self._is_closed = True
        for channel in list(self._channels.values()):
            self._close(channel)
        self.outbox.clear()

    def _open_waiting(self) -> None:
        now = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._refilled_at) * NEW_PER_S)
        self._refilled_at = now
        while self._waiting and self._tokens >= 1:
            self._tokens -= 1
            self._waiting.popleft().open(self._path, orjson.dumps(self._line("connect")) + b"\n")

    def _line(self, operation: str) -> dict[str, Any]:
        """Return the line for the egress process: what is to be done, for whom, and what they may do."""
        access, version = self._permitted
        most = access.most_bytes
        return {
            "op": operation,
            "run": self._subject,
            "key": self._key,
            "allow": access.allow,
            "deny": access.deny,
            "left": None if most is None else most - self.moved_bytes,
            "version": version,
            "for_build": self._for_build,
        }

    def _close(self, channel: NetworkChannel) -> None:
        self._moved_before += channel.moved
        if channel in self._waiting:
            self._waiting.remove(channel)
        del self._channels[channel.number]
        channel.close()

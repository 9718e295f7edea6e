"""The processes of a session: started, listed, told signals, their output kept for those who come later."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from config.clock import now
from config.ids import new_id
from sandbox.frames import ProtocolError
from sandbox.run.outcome import signal_name
from sandbox.sessions.channel import ChannelEnded, ProcessEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandbox.sessions.channel import SessionChannel
    from sandbox.sessions.session import LiveSession

#: Of the output of a process that is alive, and of one that has ended, so much is kept, the latest.
LIVE_OUTPUT_BYTES = 1024 * 1024
ENDED_OUTPUT_BYTES = 64 * 1024
#: Processes that have ended are remembered, the latest so many.
ENDED_KEPT = 64


class ProcessSpec(NamedTuple):
    """What to start: `argv` is looked up in PATH, `timeout_ms` None is no bound."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    tag: str | None = None
    timeout_ms: int | None = None


class Chunk(NamedTuple):
    """A piece of output: `seq` counts the pieces of a process from 1, `t_ms` is since its start."""

    seq: int
    kind: str
    data: bytes
    t_ms: int


class SessionProcess:
    """One process. The hub's thread takes its output; any other may look at it, wait for it and signal it."""

    def __init__(
        self, spec: ProcessSpec, channel: SessionChannel, on_end: Callable[[SessionProcess], None]
    ) -> None:
        self.id = new_id("proc")
        self.spec = spec
        self.started_at = now()
        self.ended_at: str | None = None
        self.end: ProcessEnd | None = None
        self.timed_out = False
        self.dropped_bytes = 0
        self.channel = channel
        self._on_end = on_end
        self._began = time.monotonic()
        self._change = threading.Condition()
        self._chunks: deque[Chunk] = deque()
        self._kept = 0
        self._seq = 0
        self._timer: threading.Timer | None = None

    def watch(self) -> None:
        """Take its output from now on, and end it when its time is over."""
        self.channel.on_arrival = self._take
        if self.spec.timeout_ms is not None:
            self._timer = threading.Timer(self.spec.timeout_ms / 1000, self._out_of_time)
            self._timer.daemon = True
            self._timer.start()
        self._take()  # what arrived before

    @property
    def is_alive(self) -> bool:
        return self.end is None

    def facts(self) -> dict[str, Any]:
        """Return the process object."""
        end = self.end
        number = None if end is None else end.signal_number
        return {
            "id": self.id,
            "object": "process",
            "pid": self.channel.pid,
            "argv": list(self.spec.argv),
            "tag": self.spec.tag,
            "status": "running" if end is None else "ended",
            "exit_code": None if end is None else end.exit_code,
            "signal": signal_name(number) if number is not None else None,
            "timed_out": self.timed_out,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end. Returns whether it has ended."""
        with self._change:
            return self._change.wait_for(lambda: self.end is not None, timeout_s)

    def follow(self, after: int, timeout_s: float) -> tuple[list[Chunk], bool]:
        """Wait for output beyond the piece `after`; return it, and whether the process has ended with it."""
        with self._change:
            self._change.wait_for(lambda: self._seq > after or self.end is not None, timeout_s)
            return [chunk for chunk in self._chunks if chunk.seq > after], self.end is not None

    def output(self, kind: str) -> bytes:
        """Return what is kept of an output."""
        with self._change:
            return b"".join(chunk.data for chunk in self._chunks if chunk.kind == kind)

    @property
    def last_seq(self) -> int:
        """Return the number of the newest piece of output."""
        return self._seq

    def kill(self) -> None:
        """Kill its whole tree."""
        self.channel.kill()

    def _out_of_time(self) -> None:
        with self._change:
            if self.end is not None:
                return
            self.timed_out = True
        self.channel.kill()

    def _take(self) -> None:
        with self._change:
            was_alive = self.is_alive
            self._take_output()
            has_ended = was_alive and not self.is_alive
            self._change.notify_all()
        if has_ended:  # without the lock, as it looks at the others
            self._on_end(self)

    def _take_output(self) -> None:
        try:
            pieces = self.channel.take()
        except (ChannelEnded, ProtocolError):
            self._note_end(self.channel.end or ProcessEnd(signal_number=9))
            return
        t_ms = round((time.monotonic() - self._began) * 1000)
        for kind, data in pieces:
            self._seq += 1
            self._chunks.append(Chunk(self._seq, kind, data, t_ms))
            self._kept += len(data)
        self._drop(LIVE_OUTPUT_BYTES)
        if self.channel.end is not None:
            self._note_end(self.channel.end)

    def _note_end(self, end: ProcessEnd) -> None:
        if self.end is None:
            self.end, self.ended_at = end, now()
            if self._timer is not None:
                self._timer.cancel()

    def _drop(self, most: int) -> None:
        while self._kept > most:
            gone = self._chunks.popleft()
            self._kept -= len(gone.data)
            self.dropped_bytes += len(gone.data)

    def forget_output(self) -> None:
        """Keep only the last of its output: it has ended, and others have too."""
        with self._change:
            self._drop(ENDED_OUTPUT_BYTES)


class ProcessTable:
    """The processes of one session, by id."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._processes: OrderedDict[str, SessionProcess] = OrderedDict()

    def start(self, spec: ProcessSpec) -> SessionProcess:
        """Start a process. Raises SessionGone, TooManyChannels."""
        env = {name.encode(): value.encode() for name, value in spec.env.items()}
        argv: Sequence[bytes] = [text.encode() for text in spec.argv]
        channel = self._session.stream.start_process(argv, env, spec.cwd.encode())
        process = SessionProcess(spec, channel, self._ended)
        with self._lock:
            self._processes[process.id] = process
        process.watch()
        return process

    def find(self, name: str) -> SessionProcess | None:
        """Return a process by id, by pid, or by `tag:NAME`, of several the newest."""
        with self._lock:
            found = self._processes.get(name)
            if found is not None:
                return found
            for process in reversed(self._processes.values()):
                if (process.spec.tag is not None and name == f"tag:{process.spec.tag}") or (
                    name.isdigit() and process.is_alive and process.channel.pid == int(name)
                ):
                    return process
        return None

    def all(self) -> list[SessionProcess]:
        """Return the processes in the order in which they were started."""
        with self._lock:
            return list(self._processes.values())

    def _ended(self, process: SessionProcess) -> None:
        process.channel.close()
        with self._lock:
            ended = [other for other in self._processes.values() if not other.is_alive]
            for other in ended[: max(0, len(ended) - ENDED_KEPT)]:
                del self._processes[other.id]
        for other in ended:
            if other is not process:  # its own is for whoever waits for it
                other.forget_output()

"""The processes of a session: started, listed, signalled, their output kept for those who come later."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from config.clock import now
from config.ids import new_id
from protocol.session import MOST_TERMINALS
from sandbox.frames import ProtocolError
from sandbox.run.outcome import signal_name
from sandbox.sessions.channel import ChannelEnded, ProcessEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from protocol.session import TerminalSize
    from sandbox.sessions.channel import SessionChannel
    from sandbox.sessions.output_budget import OutputBudget
    from sandbox.sessions.session import LiveSession

#: Of the output of a process that is alive, and of one that has ended, so much is kept, the latest.
LIVE_OUTPUT_BYTES = 1024 * 1024
ENDED_OUTPUT_BYTES = 64 * 1024
#: A piece costs memory of its own: of output that comes byte by byte, less is kept.
MOST_PIECES = 16_384
#: The exit code of a process for which the session had no descriptor, process or terminal; a shell's for the like.
CANNOT_START = 126
#: Of all processes of a session together.
SESSION_OUTPUT_BYTES = 4 * 1024 * 1024
#: Processes that have ended are remembered, the latest so many.
ENDED_KEPT = 64


class ProcessSpec(NamedTuple):
    """A program to start: `argv` is looked up in PATH, `timeout_ms` None is no bound."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    tag: str | None = None
    timeout_ms: int | None = None
    keep_awake: bool = False
    terminal: TerminalSize | None = None


class TooManyTerminals(Exception):
    """The session has as many terminals in use as one may."""


class Chunk(NamedTuple):
    """A piece of output: `seq` counts the pieces of a process from 1, `t_ms` is since its start."""

    seq: int
    kind: str
    data: bytes
    t_ms: int


class SessionProcess:
    """One process. The hub's thread takes its output; any other may look at it, wait for it and signal it."""

    def __init__(
        self,
        spec: ProcessSpec,
        channel: SessionChannel,
        on_end: Callable[[SessionProcess], None],
        on_kept: Callable[[SessionProcess, int], None] = lambda _process, _size: None,
    ) -> None:
        """`on_kept` is called with the change of the bytes of output that are kept."""
        self.id = new_id("proc")
        self.spec = spec
        self.started_at = now()
        self.ended_at: str | None = None
        self.end: ProcessEnd | None = None
        self.timed_out = False
        self.dropped_bytes = 0
        self.channel = channel
        self._on_end = on_end
        self._on_kept = on_kept
        self._began = time.monotonic()
        self._change = threading.Condition()
        self._chunks: deque[Chunk] = deque()
        self._kept = 0
        self._seq = 0
        self._timer: threading.Timer | None = None
        self._listeners: dict[object, Callable[[], None]] = {}

    def watch(self) -> None:
        """Take its output from now on, and end it when its time is over."""
        self.channel.on_arrival = self._take
        self.channel.on_room = self._tell
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

    def wait_for_pid(self, timeout_s: float) -> None:
        """Wait until its number is known, or it has ended."""
        with self._change:
            self._change.wait_for(lambda: self.channel.pid is not None or self.end is not None, timeout_s)

    def follow(self, after: int, timeout_s: float) -> tuple[list[Chunk], bool]:
        """Wait for output beyond the piece `after`; return it, and whether the process has ended with it."""
        with self._change:
            self._change.wait_for(lambda: self._seq > after or self.end is not None, timeout_s)
            return self._beyond(after, LIVE_OUTPUT_BYTES), self.end is not None

    def after(self, after: int, most_bytes: int) -> tuple[list[Chunk], bool]:
        """Return output beyond the piece `after`, about `most_bytes`, and whether nothing comes behind it."""
        with self._change:
            found = self._beyond(after, most_bytes)
            last = found[-1].seq if found else after
            return found, self.end is not None and last >= self._seq

    def _beyond(self, after: int, most_bytes: int) -> list[Chunk]:
        """Return kept output; the numbers of its pieces follow each other."""
        first = self._seq - len(self._chunks)
        found = []
        for chunk in islice(self._chunks, max(0, after - first), None):
            found.append(chunk)
            most_bytes -= len(chunk.data)
            if most_bytes <= 0:
                break
        return found

    def add_listener(self, listener: object, call: Callable[[], None]) -> None:
        """Have `call` called, on any thread, when there is output, the end, or room for input."""
        with self._change:
            self._listeners[listener] = call

    def remove_listener(self, listener: object) -> None:
        """Tell a listener nothing more. Without effect when repeated."""
        with self._change:
            self._listeners.pop(listener, None)

    def _tell(self) -> None:
        with self._change:
            calls = list(self._listeners.values())
        for call in calls:
            call()

    def output(self, kind: str) -> bytes:
        """Return what is kept of an output."""
        with self._change:
            return b"".join(chunk.data for chunk in self._chunks if chunk.kind == kind)

    @property
    def last_seq(self) -> int:
        """Return the number of the newest piece of output."""
        return self._seq

    @property
    def age_ms(self) -> int:
        """Return how long ago it was started."""
        return round((time.monotonic() - self._began) * 1000)

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
            was_alive, before = self.is_alive, self._kept
            self._take_output()
            has_ended = was_alive and not self.is_alive
            self._change.notify_all()
            grown = self._kept - before
        # Without the lock, as these look at the others.
        self._on_kept(self, grown)
        if has_ended:
            self._on_end(self)
        self._tell()

    def _take_output(self) -> None:
        try:
            pieces = self.channel.take()
        except (ChannelEnded, ProtocolError):
            self._note_end(self.channel.end or ProcessEnd(signal_number=9))
            return
        t_ms = self.age_ms
        end = self.channel.end
        if end is not None and end.failed is not None:  # as of a program that cannot be executed
            pieces.append(("stderr", f"cannot start {self.spec.argv[0]}: {end.failed}\n".encode()))
            end = ProcessEnd(exit_code=CANNOT_START, failed=end.failed)
        for kind, data in pieces:
            self._seq += 1
            self._chunks.append(Chunk(self._seq, kind, data, t_ms))
            self._kept += len(data)
        self._drop(LIVE_OUTPUT_BYTES)
        if end is not None:
            self._note_end(end)

    def _note_end(self, end: ProcessEnd) -> None:
        if self.end is None:
            self.end, self.ended_at = end, now()
            if self._timer is not None:
                self._timer.cancel()

    def _drop(self, most: int) -> None:
        while self._kept > most or len(self._chunks) > MOST_PIECES:
            gone = self._chunks.popleft()
            self._kept -= len(gone.data)
            self.dropped_bytes += len(gone.data)

    @property
    def kept_bytes(self) -> int:
        """Return how much of its output is kept."""
        return self._kept

    def keep_at_most(self, size: int) -> None:
        """Keep only the last of its output."""
        with self._change:
            before = self._kept
            self._drop(max(0, size))
            dropped = before - self._kept
        if dropped:
            self._on_kept(self, -dropped)


class ProcessTable:
    """The processes of one session, by id."""

    def __init__(self, session: LiveSession, budget: OutputBudget) -> None:
        """`budget` counts what is kept of the processes of all sessions; `close` gives this session's part back."""
        self._session = session
        self._budget = budget
        self._kept = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._processes: OrderedDict[str, SessionProcess] = OrderedDict()

    def start(self, spec: ProcessSpec) -> SessionProcess:
        """Start a process. Raises SessionGone, TooManyChannels, TooManyTerminals."""
        env = {name.encode(): value.encode() for name, value in spec.env.items()}
        argv: Sequence[bytes] = [text.encode() for text in spec.argv]
        stream = self._session.stream
        with self._lock:
            if spec.terminal is not None and self._terminals() >= MOST_TERMINALS:
                raise TooManyTerminals
            channel = stream.start_process(argv, env, spec.cwd.encode(), spec.terminal)
            process = SessionProcess(spec, channel, self._ended, self._kept_changed)
            self._processes[process.id] = process
        process.watch()
        return process

    def _terminals(self) -> int:
        """Count the terminals that are not free yet: that of an ended process is, once its tree is gone."""
        return sum(one.spec.terminal is not None and not one.channel.is_closed for one in self._processes.values())

    @property
    def keep_awake(self) -> bool:
        """Return whether a process lives during which the session must not be frozen."""
        return any(process.spec.keep_awake and process.is_alive for process in self.all())

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

    def close(self) -> None:
        """Count the output no more: the session has ended, and is kept only for those who still read it."""
        with self._lock:
            kept, self._kept = self._kept, 0
            self._is_closed = True
        self._budget.change(-kept)

    def _kept_changed(self, process: SessionProcess, size: int) -> None:
        """Have the process that keeps the most drop what the session has beyond its bound, or all sessions have."""
        with self._lock:
            if self._is_closed:
                return
            self._kept += size
            beyond = self._kept - SESSION_OUTPUT_BYTES
            largest = max(self._processes.values(), key=lambda one: one.kept_bytes, default=process)
        beyond = max(beyond, self._budget.change(size))
        if size > 0 and beyond > 0:
            largest.keep_at_most(largest.kept_bytes - beyond)

    def _ended(self, process: SessionProcess) -> None:
        process.channel.close()
        with self._lock:
            ended = [other for other in self._processes.values() if not other.is_alive]
            forgotten = ended[: max(0, len(ended) - ENDED_KEPT)]
            for other in forgotten:
                del self._processes[other.id]
        for other in ended:
            if other is not process:  # its own is for those who wait for it
                other.keep_at_most(0 if other in forgotten else ENDED_OUTPUT_BYTES)

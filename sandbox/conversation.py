"""One job, spoken with one agent: the host's own clock, counters and kill switch.

Nothing the agent says is taken beyond the bounds kept here. The thread that runs this sleeps in poll() until
bytes, a deadline or whoever may end the run wakes it.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sandbox import frames
from sandbox.artifacts import Blobs, Receiver
from sandbox.engines import EngineError, Sandbox, Stats
from sandbox.frames import Frame, FrameParser, ProtocolError, frame
from sandbox.live import LiveRun
from sandbox.opening import Inputs, opening
from sandbox.outcome import Ending
from sandbox.plan import Plan

READ_BYTES = 256 * 1024
READY_TIMEOUT_S = 15.0
#: Sending the job and its files; a sandbox that does not take them in this time is broken.
SEND_TIMEOUT_S = 15.0
#: Files from storage have so much longer: what a slow store gives is no reason to end a run.
SEND_BYTES_PER_S = 4 * 1024 * 1024
#: From the decision to end a program to the agent's word that all is dead.
KILL_TIMEOUT_S = 2.0
COLLECT_TIMEOUT_S = 2.0
COLLECT_RESERVE_MB = 32
STDIN_WINDOW_BYTES = 64 * 1024
CPU_CHECK_MIN_S = 0.005


def await_ready(sandbox: Sandbox, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait for the agent's `ready`. Raises EngineError if it does not come, or anything else does."""
    stream = sandbox.stream
    stream.settimeout(timeout_s)
    want = frame(frames.READY)
    got = b""
    try:
        while len(got) < len(want):
            piece = stream.recv(len(want) - len(got))
            if not piece:
                break
            got += piece
    except OSError as e:
        raise EngineError(f"the agent did not get ready: {e}") from e
    if got != want:
        raise EngineError("the agent did not get ready")


def is_waiting(sandbox: Sandbox) -> bool:
    """Whether a warm sandbox still waits: it has said nothing more and has not hung up."""
    poller = select.poll()
    poller.register(sandbox.stream, select.POLLIN)
    return not poller.poll(0)


class Storage(Blobs, Inputs, Protocol):
    """Where artifacts go and inputs come from."""


@dataclass(slots=True)
class Spoken:
    """What came of a conversation: how it ended, what was made and used. What was printed is in the run's log."""

    ending: Ending
    stdout_truncated: bool
    stderr_truncated: bool
    wall_ms: int
    stats: Stats
    receiver: Receiver


@dataclass(slots=True)
class _Stream:
    """One captured output stream: at most `room` more bytes are kept."""

    name: str
    room: int
    truncated: bool = False

    def take(self, payload: bytes) -> bytes:
        """As much of it as there is room for."""
        if len(payload) > self.room:
            self.truncated = True
            payload = payload[: self.room]
        self.room -= len(payload)
        return payload


class Conversation:
    """Speaks one plan with one ready sandbox whose limits are in force."""

    def __init__(self, sandbox: Sandbox, plan: Plan, live: LiveRun, storage: Storage) -> None:
        self._sandbox = sandbox
        self._plan = plan
        self._live = live
        self._parser = FrameParser()
        self._outbox = bytearray()
        #: What is still to be said first; None when all of it has been.
        self._opening: Iterator[bytes] | None = opening(plan, storage)
        self._stdin = memoryview(plan.stdin)
        self._stdin_unacknowledged = 0
        self._stdin_ended = False
        self._out = {
            frames.STDOUT: _Stream("stdout", plan.limits.max_output_bytes),
            frames.STDERR: _Stream("stderr", plan.limits.max_output_bytes),
        }
        self._receiver = Receiver(plan.limits, storage)
        self._exit: tuple[int | None, int | None] | None = None
        self._stats: Stats | None = None
        self._started_at = time.monotonic()
        self._ended_at: float | None = None
        self._collecting = False
        self._finished = False
        self._timed_out = self._stopped = self._broken = False
        #: When the agent's time to answer what it was last told is up; None while the program runs.
        sending_s = SEND_TIMEOUT_S + sum(item.size for item in plan.inputs) / SEND_BYTES_PER_S
        self._patience: float | None = self._started_at + sending_s
        self._wall_deadline = self._cpu_check = 0.0

    def speak(self) -> Spoken:
        """Send the job, serve it to its end, and say how that was.

        Raises StorageError if an input cannot be sent; nothing of the program has run then.
        """
        stream = self._sandbox.stream
        stream.setblocking(False)
        try:
            self._flush()
            while not self._finished:
                self._step()
        except (ProtocolError, ConnectionError):
            self._broken = self._exit is None or self._broken
            self._sandbox.kill()
        except BaseException:
            self._receiver.abort()
            raise
        return self._spoken()

    # -- one turn ----------------------------------------------------------------------------------

    def _step(self) -> None:
        if self._live.stop is not None and self._exit is None and not self._stopped:
            self._stopped = True
            self._stop_program()
        poller = select.poll()
        stream = self._sandbox.stream
        # Who listens too slowly holds the program up, as a pipe would; its clocks go on.
        reading = 0 if self._live.is_behind and self._patience is None else select.POLLIN
        poller.register(stream, reading | (select.POLLOUT if self._outbox or self._opening is not None else 0))
        self._live.register(poller)
        for fd, event in poller.poll(self._timeout_ms()):
            if fd != stream.fileno():
                self._live.attend(fd, event)
                continue
            if event & select.POLLOUT:
                self._flush()
            if event & ~select.POLLOUT:
                self._receive()
        self._check_clocks()

    def _timeout_ms(self) -> float:
        until = self._patience
        if until is None:
            until = min(self._wall_deadline, self._cpu_check)
        until = min(until, self._live.log.due())
        return max(0.0, (until - time.monotonic()) * 1000) + 0.5

    def _check_clocks(self) -> None:
        self._live.tick()
        now = time.monotonic()
        if self._finished:
            return
        if self._patience is not None:
            if now >= self._patience:
                self._broken = self._broken or self._exit is None
                raise ProtocolError("the agent does not answer")
        elif now >= self._wall_deadline or (now >= self._cpu_check and self._cpu_is_spent(now)):
            self._timed_out = True
            self._stop_program()

    def _cpu_is_spent(self, now: float) -> bool:
        """Read the cgroup's clock, and say when it can next be worth reading."""
        limits = self._plan.limits
        left_s = limits.cpu_ms / 1000 - self._sandbox.stats().cpu_ns / 1e9
        self._cpu_check = now + max(left_s / limits.cpus, CPU_CHECK_MIN_S)
        return left_s <= 0

    def _stop_program(self) -> None:
        """Have the agent kill everything; it then reports as after any other end."""
        if self._opening is not None:
            raise ProtocolError("ended before it began")
        if self._exit is None:
            self._outbox += frame(frames.KILL)
            self._patience = time.monotonic() + KILL_TIMEOUT_S
            self._flush()

    # -- to the agent ------------------------------------------------------------------------------

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._outbox or self._fill():
                sent = self._sandbox.stream.send(memoryview(self._outbox)[:READ_BYTES])
                del self._outbox[:sent]
        if not self._outbox and self._opening is None and not self._wall_deadline:
            self._begin()

    def _fill(self) -> bool:
        """Put more of what is said first into the outbox, behind the last of it stdin and `go`.

        False if all was there already. Some at a time: files are not to be held whole.
        """
        if self._opening is None:
            return False
        while len(self._outbox) < READ_BYTES:
            piece = next(self._opening, None)
            if piece is None:
                self._opening = None
                self._queue_stdin()
                self._outbox += frame(frames.GO)
                break
            self._outbox += piece
        return True

    def _begin(self) -> None:
        """Everything has been handed over, `go` with it: the program's time starts."""
        limits = self._plan.limits
        self._started_at = time.monotonic()
        self._wall_deadline = self._started_at + limits.timeout_ms / 1000
        self._cpu_check = self._started_at + max(limits.cpu_ms / 1000 / limits.cpus, CPU_CHECK_MIN_S)
        if not self._stopped:
            self._patience = None
        self._live.say("phase", {"name": "run"})

    def _queue_stdin(self) -> None:
        """Send as much of stdin as the window allows; the agent holds no more than that."""
        room = STDIN_WINDOW_BYTES - self._stdin_unacknowledged
        while self._stdin and room > 0:
            piece = self._stdin[:room]
            self._stdin = self._stdin[len(piece) :]
            self._stdin_unacknowledged += len(piece)
            room -= len(piece)
            self._outbox += frame(frames.STDIN, bytes(piece))
        if not self._stdin and not self._stdin_ended:
            self._outbox += frame(frames.STDIN_END)
            self._stdin_ended = True

    # -- from the agent ----------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            data = self._sandbox.stream.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ProtocolError("the agent has hung up")
        for item in self._parser.feed(data):
            self._handle(item)

    def _handle(self, item: Frame) -> None:
        kind, payload = item.kind, item.payload
        if self._finished or not self._wall_deadline:
            raise ProtocolError("a frame out of place")
        if self._exit is None:
            if kind in self._out:
                out = self._out[kind]
                self._live.output(out.name, out.take(payload))
            elif kind == frames.STDIN_TAKEN:
                self._stdin_taken(frames.number(payload))
            elif kind == frames.EXIT:
                self._exited(payload)
            else:
                raise ProtocolError("a frame out of place")
        elif kind == frames.END:
            self._receiver.end(payload)
            self._finished = True
        elif self._collecting and kind == frames.ARTIFACT:
            self._receiver.begin(payload)
        elif self._collecting and kind == frames.DATA:
            self._receiver.data(payload)
        elif self._collecting and kind == frames.SKIPPED:
            self._receiver.skip(payload)
        elif kind != frames.STDIN_TAKEN:
            raise ProtocolError("a frame out of place")

    def _stdin_taken(self, count: int) -> None:
        if count > self._stdin_unacknowledged:
            raise ProtocolError("more stdin taken than was sent")
        self._stdin_unacknowledged -= count
        self._queue_stdin()
        self._flush()

    def _exited(self, payload: bytes) -> None:
        """The main process has ended and everything else is dead: what it used, and its outputs if any."""
        kind, digits, out_cut, err_cut, outputs = frames.unpack(payload, 5)
        value = frames.number(digits, 255)
        if kind == b"exit":
            self._exit = (value, None)
        elif kind == b"signal" and 0 < value <= 64:
            self._exit = (None, value)
        else:
            raise ProtocolError("an end that cannot be")
        self._ended_at = time.monotonic()
        self._stats = self._sandbox.stats()
        self._live.end_of_output()
        self._out[frames.STDOUT].truncated |= out_cut == b"1"
        self._out[frames.STDERR].truncated |= err_cut == b"1"
        self._patience = self._ended_at + COLLECT_TIMEOUT_S
        if outputs == b"1":
            self._collecting = True
            self._sandbox.lend_memory(COLLECT_RESERVE_MB)
            self._outbox += frame(frames.COLLECT)
            self._flush()

    # -- the end -----------------------------------------------------------------------------------

    def _spoken(self) -> Spoken:
        if not self._finished:
            self._receiver.close()
        self._live.end_of_output()
        ended_at = self._ended_at or time.monotonic()
        stats = self._stats or self._sandbox.stats()
        code, number = self._exit or (None, None)
        if self._timed_out or self._stopped:
            code = None if number is not None else code
        out, err = self._out[frames.STDOUT], self._out[frames.STDERR]
        return Spoken(
            ending=Ending(
                exit_code=code,
                signal_number=number,
                timed_out=self._timed_out,
                cancelled=self._stopped and self._live.stop == "cancelled",
                broken=self._broken or (self._stopped and self._live.stop != "cancelled"),
                oom_kills=stats.oom_kills,
            ),
            stdout_truncated=out.truncated,
            stderr_truncated=err.truncated,
            wall_ms=round((ended_at - self._started_at) * 1000),
            stats=stats,
            receiver=self._receiver,
        )

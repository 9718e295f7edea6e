"""The client of one agent for one job: the host's own clock, counters and kill switch.

Everything from the agent is bounded here. The thread that runs this sleeps in poll() until bytes, a deadline or a
request to end the run wakes it.
"""

from __future__ import annotations

import contextlib
import logging
import select
import time
from collections.abc import Iterator
from typing import Literal, Protocol

from config.failpoints import failpoint
from config.pieces import PIECE_BYTES
from sandbox import frames
from sandbox.agent_client.artifacts import Receiver
from sandbox.agent_client.job_frames import Inputs, job_frames
from sandbox.agent_client.output_file import OutputFile
from sandbox.agent_client.report import AgentReport, CompileOutcome, OutputBuffer, output_buffers
from sandbox.agent_client.stdin import StdinWindow
from sandbox.blobs import BlobWriter
from sandbox.engines import Sandbox, SandboxBroken, Stats
from sandbox.frames import Frame, FrameParser, ProtocolError, frame
from sandbox.network.relay import NetworkRelay
from sandbox.run.live import LiveRun
from sandbox.run.outcome import ExitFacts
from sandbox.run.plan import ExecutionPlan

log = logging.getLogger(__name__)

#: Sending the job and its files; a sandbox that does not take them in this time is broken.
SEND_TIMEOUT_S = 15.0
#: Files from storage have so much longer: what a slow store gives is no reason to end a run.
SEND_BYTES_PER_S = 4 * 1024 * 1024
#: Time between sending KILL and receiving the EXIT frame.
KILL_TIMEOUT_S = 2.0
#: Time between the end of a run and the end of its artifacts, and how much longer they have for what has come.
COLLECT_TIMEOUT_S = 2.0
COLLECT_BYTES_PER_S = 1024 * 1024
COLLECT_RESERVE_MB = 32
CPU_CHECK_MIN_S = 0.005
Phase = Literal["compile", "run"]


class Storage(BlobWriter, Inputs, Protocol):
    """The storage of artifacts and inputs."""


class AgentClient:
    """Runs one plan in one ready sandbox with applied limits."""

    def __init__(
        self,
        sandbox: Sandbox,
        plan: ExecutionPlan,
        live: LiveRun,
        storage: Storage,
        network: NetworkRelay | None = None,
    ) -> None:
        """`network` relays the connections of a run that may reach hosts."""
        self._sandbox = sandbox
        self._network = network
        self._plan = plan
        self._live = live
        self._phase: Phase = "compile" if plan.compiling else "run"
        self._limits = plan.compiling.limits if plan.compiling else plan.limits
        self._compiled: CompileOutcome | None = None
        self._parser = FrameParser(has_network=network is not None)
        self._send_buffer = bytearray()
        #: The opening frames that are not sent yet; None when all are sent.
        self._job_frames: Iterator[bytes] | None = job_frames(plan, storage)
        self._stdin = StdinWindow(plan.stdin, is_open=plan.stdin_open)
        self._out = output_buffers(plan.limits.max_output_bytes)
        self._output = OutputFile() if plan.has_output_file else None
        self._receiver = Receiver(plan.limits, storage, self._output)
        self._exit: tuple[int | None, int | None] | None = None
        self._stats: Stats | None = None
        self._started_at = time.monotonic()
        self._ended_at: float | None = None
        self._collecting = False
        self._finished = False
        self._timed_out = self._stopped = self._broken = self._overflowed = False
        #: The first phase was never started: the agent ended before it had read the frame that does so.
        self._unread = False
        #: Something followed that frame, or came from the agent.
        self._has_gone_on = False
        #: The deadline of the agent's answer to the last frame; None while the program runs.
        sending_s = SEND_TIMEOUT_S + sum(item.size for item in plan.inputs) / SEND_BYTES_PER_S
        self._reply_deadline: float | None = self._started_at + sending_s
        self._wall_deadline = self._cpu_check = 0.0

    def run_job(self) -> AgentReport:
        """Send the job, serve it to its end, and return the report.

        Raises StorageError if an input cannot be sent; nothing of the program has run then.
        """
        stream = self._sandbox.stream
        stream.setblocking(False)
        self._live.serve_requests()
        try:
            self._start_phase()
            while not self._finished:
                self._step()
        except (ProtocolError, ConnectionError, SandboxBroken) as e:
            self._broken = self._exit is None or self._broken
            self._unread = self._is_unread(e)
            self._sandbox.kill()
        except BaseException:
            self._receiver.abort()
            raise
        finally:
            if self._network is not None:
                self._network.close()
        return self._report()

    # -- one turn ----------------------------------------------------------------------------------

    def _step(self) -> None:
        if self._live.has_requests:
            self._take_requests()
        if self._live.stop is not None and self._exit is None and not self._stopped:
            self._stopped = True
            self._stop_program()
        poller = select.poll()
        stream = self._sandbox.stream
        # A slow listener blocks the program, as a pipe would; its clocks continue.
        reading = 0 if self._live.is_backpressured and self._reply_deadline is None else select.POLLIN
        writing = select.POLLOUT if self._send_buffer or self._job_frames is not None else 0
        poller.register(stream, reading | writing)
        self._live.register(poller)
        if self._network is not None:
            self._network.register(poller)
        for fd, event in poller.poll(self._timeout_ms()):
            if fd != stream.fileno():
                if self._network is None or not self._network.handle_event(fd, event):
                    self._live.handle_event(fd, event)
                continue
            if event & select.POLLOUT:
                self._flush()
            if event & ~select.POLLOUT:
                self._receive()
        if self._network is not None and self._network.outbox and self._job_frames is None:
            self._has_gone_on = True
            self._send_buffer += self._network.outbox
            self._network.outbox.clear()
            self._flush()
        self._check_clocks()

    def _timeout_ms(self) -> float:
        until = self._reply_deadline
        if until is None:
            until = min(self._wall_deadline, self._cpu_check)
        until = min(until, self._live.log.due())
        if self._network is not None:
            until = min(until, self._network.due())
        return max(0.0, (until - time.monotonic()) * 1000) + 0.5

    def _check_clocks(self) -> None:
        self._live.tick()
        now = time.monotonic()
        if self._finished:
            return
        if self._reply_deadline is not None:
            if now >= self._reply_deadline:
                self._broken = self._broken or self._exit is None
                raise ProtocolError("the agent does not answer")
        elif now >= self._wall_deadline or (now >= self._cpu_check and self._cpu_is_spent(now)):
            self._timed_out = True
            self._stop_program()

    def _cpu_is_spent(self, now: float) -> bool:
        """Read the cgroup's CPU time, and compute the next time at which a reading is useful."""
        limits = self._limits
        left_s = limits.cpu_ms / 1000 - self._sandbox.stats().cpu_ns / 1e9
        self._cpu_check = now + max(left_s / limits.cpus, CPU_CHECK_MIN_S)
        return left_s <= 0

    def _stop_program(self) -> None:
        """Have the agent kill everything; it then reports as after any other end."""
        if self._job_frames is not None:
            raise ProtocolError("ended before it began")
        if self._exit is None:
            self._has_gone_on = True
            self._send_buffer += frame(frames.KILL)
            self._reply_deadline = time.monotonic() + KILL_TIMEOUT_S
            self._flush()

    def _take_requests(self) -> None:
        """Pass on input and signals that came meanwhile, as far as the program takes its input."""
        if self._live.inbox is None:
            return
        self._has_gone_on = True  # what is taken here is not asked for again
        for number in self._live.take_requests(self._stdin):
            if self._phase == "run" and self._wall_deadline and self._exit is None and not self._stopped:
                self._send_buffer += frame(frames.SIGNAL, b"%d" % number)
        if self._phase == "run" and self._job_frames is None and self._exit is None:
            self._send_buffer += self._stdin.due()
            self._flush()

    # -- to the agent ------------------------------------------------------------------------------

    def _start_phase(self) -> None:
        """Have the agent start the compiler, or the program with what there is of its input."""
        if self._phase == "compile" and not self._sandbox.enter_compile_phase(self._limits):
            self._does_not_fit()
            return
        if self._job_frames is None:  # the job has been sent long ago
            self._wall_deadline = 0.0
            self._reply_deadline = time.monotonic() + SEND_TIMEOUT_S
            self._tell_phase()
        self._flush()

    def _tell_phase(self) -> None:
        if self._phase == "compile":
            self._send_buffer += frame(frames.COMPILE)
        else:
            self._send_buffer += self._stdin.due()
            self._send_buffer += frame(frames.GO)

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._send_buffer or self._fill():
                sent = self._sandbox.stream.send(memoryview(self._send_buffer)[:PIECE_BYTES])
                del self._send_buffer[:sent]
        if not self._send_buffer and self._job_frames is None and not self._wall_deadline:
            self._begin()

    def _fill(self) -> bool:
        """Put more opening frames into the outbox, and after the last one the frame that starts the phase.

        False if all was there already. Some at a time: files are not to be held whole.
        """
        if self._job_frames is None:
            return False
        while len(self._send_buffer) < PIECE_BYTES:
            piece = next(self._job_frames, None)
            if piece is None:
                self._job_frames = None
                self._tell_phase()
                break
            self._send_buffer += piece
        return True

    def _begin(self) -> None:
        """Start the phase's time: everything has been handed over, `go` or `compile` with it."""
        limits = self._limits
        self._started_at = time.monotonic()
        self._wall_deadline = self._started_at + limits.timeout_ms / 1000
        self._cpu_check = self._started_at + max(limits.cpu_ms / 1000 / limits.cpus, CPU_CHECK_MIN_S)
        if not self._stopped:
            self._reply_deadline = None
        self._live.begin_phase(self._phase)
        failpoint("started")

    # -- from the agent ----------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            data = self._sandbox.stream.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionAbortedError("the agent has hung up")
        self._has_gone_on = True
        try:
            items = self._parser.feed(data)
        except ProtocolError as e:
            log.info("a sandbox sent a frame that is not allowed", extra={"reason": str(e)})
            raise
        for item in items:
            if item.channel == frames.RUN_CHANNEL:
                self._handle(item)
            else:
                self._on_connection(item)

    def _on_connection(self, item: Frame) -> None:
        """Handle a frame of a connection of the proxy; those of no network the parser lets through."""
        if self._network is None or not self._wall_deadline:
            raise ProtocolError("a frame out of place")
        self._network.handle_frame(item)

    def _handle(self, item: Frame) -> None:
        kind, payload = item.kind, item.payload
        if self._finished or not self._wall_deadline:
            raise ProtocolError("a frame out of place")
        if self._exit is None:
            if kind in self._out:
                self._on_output(self._out[kind], payload)
            elif kind == frames.STDIN_TAKEN and self._phase == "run":
                self._stdin.taken(frames.number(payload))
                self._send_buffer += self._stdin.due()
                self._take_requests()
                self._flush()
            elif kind == frames.COMPILED and self._phase == "compile":
                self._compiler_ended(payload)
            elif kind == frames.EXIT and self._phase == "run":
                self._exited(payload)
            else:
                raise ProtocolError("a frame out of place")
        elif kind == frames.END:
            self._receiver.end(payload)
            self._finished = True
        elif self._collecting and kind == frames.ARTIFACT:
            self._receiver.begin(payload)
            failpoint("collecting")
        elif self._collecting and kind == frames.DATA:
            self._receiver.data(payload)
            # A machine that is busy must not cost a run its files; an agent that sends nothing gains nothing.
            assert self._reply_deadline is not None
            self._reply_deadline += len(payload) / COLLECT_BYTES_PER_S
        elif self._collecting and kind == frames.SKIPPED:
            self._receiver.skip(payload)
        elif kind != frames.STDIN_TAKEN:
            raise ProtocolError("a frame out of place")

    def _on_output(self, stream: OutputBuffer, payload: bytes) -> None:
        kept = stream.take(payload)
        if self._phase == "run":
            self._live.output(stream.name, kept)
        else:
            stream.data += kept
        if stream.truncated and self._plan.ends_when_cut and self._reply_deadline is None:
            self._overflowed = True
            self._stop_program()

    def _compiler_ended(self, payload: bytes) -> None:
        """Handle the end of the compile phase, when all its processes have exited. After a success the program
        starts.
        """
        kind, digits, _, _ = frames.unpack(payload, 4)
        code, _ = _end_of(kind, digits)
        self._note_compiled(None if self._overflowed else code, self._sandbox.stats())
        if code != 0 or self._timed_out or self._stopped or self._overflowed:
            self._finished = True
        elif self._sandbox.leave_compile_phase():
            self._phase, self._limits = "run", self._plan.limits
            self._start_phase()
        else:
            self._does_not_fit()

    def _does_not_fit(self) -> None:
        """End a run whose next phase has less memory than its sandbox holds: reported as killed for it."""
        self._stats = Stats(0, 0, 1)
        self._finished = True

    def _note_compiled(self, exit_code: int | None, stats: Stats) -> None:
        """Keep the compiler's output and usage; further output belongs to the program."""
        out, err = (bytes(self._out[kind].data) for kind in (frames.STDOUT, frames.STDERR))
        wall_ms, cpu_ms = self._elapsed_ms(time.monotonic()), round(stats.cpu_ns / 1e6)
        self._compiled = CompileOutcome(out, err, exit_code, wall_ms, cpu_ms)
        self._out = output_buffers(self._plan.limits.max_output_bytes)

    def _exited(self, payload: bytes) -> None:
        """Handle the end of the run, when all processes have exited: read usage and collect artifacts."""
        kind, digits, out_cut, err_cut, outputs = frames.unpack(payload, 5)
        self._exit = _end_of(kind, digits)
        failpoint("exited")
        self._ended_at = time.monotonic()
        self._stats = self._sandbox.stats()
        if self._network is not None:
            self._network.close()
        self._live.end_of_output()
        self._out[frames.STDOUT].truncated |= out_cut == b"1"
        self._out[frames.STDERR].truncated |= err_cut == b"1"
        self._reply_deadline = self._ended_at + COLLECT_TIMEOUT_S
        if outputs == b"1":
            self._collecting = True
            self._sandbox.raise_memory_limit(COLLECT_RESERVE_MB)
            self._send_buffer += frame(frames.COLLECT)
            self._flush()

    # -- the end -----------------------------------------------------------------------------------

    def _is_unread(self, error: Exception) -> bool:
        """Return whether the agent cannot have read the frame that starts the first phase, which is sent last."""
        if self._has_gone_on or not isinstance(error, ConnectionError):
            return False
        # A peer that closes its socket before it has read everything resets the connection (unix(7): ECONNRESET).
        return not self._wall_deadline or isinstance(error, ConnectionResetError)

    def _report(self) -> AgentReport:
        if not self._finished:
            self._receiver.close()
        self._live.end_of_output()
        stats = self._stats or self._sandbox.stats()
        ended_at = self._ended_at or time.monotonic()
        ran = self._phase == "run"
        if not ran:
            if self._compiled is None:
                self._note_compiled(None, stats)
            stats = Stats(0, 0, stats.oom_kills)
        code, number = self._exit or (None, None)
        if self._timed_out or self._stopped or self._overflowed:
            code = None if number is not None else code
        out, err = self._out[frames.STDOUT], self._out[frames.STDERR]
        return AgentReport(
            ending=ExitFacts(
                exit_code=code,
                signal_number=number,
                timed_out=self._timed_out,
                cancelled=self._stopped and self._live.stop == "cancelled",
                interrupted=self._stopped and self._live.stop == "interrupted",
                broken=self._broken or self._overflowed or (self._stopped and self._live.stop == "stopping"),
                oom_kills=stats.oom_kills,
                not_compiled=not ran,
            ),
            stdout_truncated=out.truncated,
            stderr_truncated=err.truncated,
            wall_ms=self._elapsed_ms(ended_at) if ran else 0,
            stats=stats,
            receiver=self._receiver,
            output=self._output,
            compiled=self._compiled,
            egress_bytes=0 if self._network is None else self._network.moved_bytes,
            unread=self._unread and stats.oom_kills == 0,
        )

    def _elapsed_ms(self, until: float) -> int:
        """Return the milliseconds since the current phase began."""
        return round((until - self._started_at) * 1000)


def _end_of(kind: bytes, digits: bytes) -> tuple[int | None, int | None]:
    """Return the exit code or the signal of a main process. Raises ProtocolError for an impossible end."""
    value = frames.number(digits, 255)
    if kind == b"exit":
        return value, None
    if kind == b"signal" and 0 < value <= 64:
        return None, value
    raise ProtocolError("an end that cannot be")

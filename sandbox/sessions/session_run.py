"""One run in a session: its files, its process in the session's /work, its output, and what it left in outputs."""

from __future__ import annotations

import select
import signal
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from config.clock import now
from protocol.limits import MIB
from protocol.result import Compile, Result, Usage
from sandbox.agent_client.artifacts import Receiver
from sandbox.agent_client.report import OutputBuffer
from sandbox.languages import BUILD_DIRECTORY
from sandbox.results import ended_result, refused_since
from sandbox.run.outcome import ExitFacts
from sandbox.run.stored_outputs import store_outputs
from sandbox.sessions.channel import ChannelEnded, ProcessEnd
from sandbox.sessions.company import RunCompany
from sandbox.sessions.files import Entry, operation
from sandbox.sessions.outputs import SessionOutputs
from sandbox.sessions.session import SessionGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from protocol.result import Isolation
    from sandbox.agent_client.client import Storage
    from sandbox.engines import Sandbox, Stats
    from sandbox.run.live import LiveRun
    from sandbox.run.plan import ExecutionPlan
    from sandbox.sessions.channel import SessionChannel
    from sandbox.sessions.session import LiveSession

#: A process that has left nothing behind is closed within less.
CLOSED_S = 0.005
#: From the decision to kill a run to its end; a session that takes longer is ended.
KILL_TIMEOUT_S = 5.0
#: From the loss of a sandbox until it is known why its session has ended.
END_KNOWN_S = 2.0


class SessionRun:
    """One run under way."""

    def __init__(
        self,
        session: LiveSession,
        plan: ExecutionPlan,
        live: LiveRun,
        storage: Storage,
        queue_ms: int,
        lose: Callable[[LiveSession, str], None],
    ) -> None:
        """`lose` ends the session of a run that cannot be ended otherwise."""
        self._lose = lose
        self._session = session
        self._plan = plan
        self._live = live
        self._storage = storage
        self._queue_ms = queue_ms
        room = plan.limits.max_output_bytes
        self._out = {name: OutputBuffer(name, room) for name in ("stdout", "stderr")}
        self._receiver = Receiver(plan.limits, storage)
        self._outputs = SessionOutputs(session, plan.outputs)
        self._company = RunCompany(session.stream)
        self._timed_out = self._is_stopped = self._is_over = False

    def result(self) -> Result:
        """Run it to its end. Raises ChannelEnded if the session ends before its program has started."""
        started_at = now()
        self._note_outputs()
        self._write_files()
        compiled = self._compiled()
        sandbox = self._session.sandbox
        before, refused = sandbox.stats(), refused_since(sandbox, 0)
        began = time.monotonic()
        isolation = self._session.isolation
        end, used = ProcessEnd(), before
        if compiled is None or compiled.exit_code == 0:
            self._live.emit("phase", {"name": "run"})
            try:
                end = self._program()
                used = self._session.sandbox.stats()
            except (ChannelEnded, SessionGone):  # what it printed until then is its output
                self._is_over, end = True, ProcessEnd(signal_number=signal.SIGKILL)
                self._session.wait_for_end(END_KNOWN_S)
        wall_ms = round((time.monotonic() - began) * 1000)
        self._live.end_of_output()
        try:
            if not self._is_over:
                self._collect()
            self._receiver.store(lambda artifact: self._live.emit("artifact", asdict(artifact)))
        except BaseException:
            self._receiver.abort()
            raise
        result = self._as_result(end, isolation, started_at, wall_ms, before, used, compiled, sandbox, refused)
        return replace(result, outputs=store_outputs(self._storage, result.stdout, result.stderr, result.results))

    def _note_outputs(self) -> None:
        self._outputs.note()

    def _collect(self) -> None:
        """Receive what the run has left in its directory of outputs; nothing if the session ends meanwhile."""
        try:
            self._outputs.collect(self._receiver, self._plan.limits)
        except (ChannelEnded, SessionGone):
            self._is_over = True
            self._receiver.abort()

    # -- files in ----------------------------------------------------------------------------------

    def _write_files(self) -> None:
        for path, content in self._plan.files:
            self._outputs.note_written(write_file(self._session, path, len(content), [content]))
        for item in self._plan.inputs:
            with self._storage.open_input(item) as stored:
                self._outputs.note_written(write_file(self._session, item.path, item.size, stored))

    # -- the processes -----------------------------------------------------------------------------

    def _compiled(self) -> Compile | None:
        """Compile the program, in the environment of its image; None for a language without a compiler."""
        compiling = self._plan.compiling
        if compiling is None:
            return None
        with operation(self._session, b"clear", BUILD_DIRECTORY.encode()) as clearing:
            clearing.report(whole=True)
        self._live.emit("phase", {"name": "compile"})
        room = self._plan.limits.max_output_bytes
        said = {name: OutputBuffer(name, room) for name in ("stdout", "stderr")}
        before, began = self._session.sandbox.stats(), time.monotonic()
        end = self._process(
            compiling.argv,
            compiling.env,
            b"",
            compiling.limits.timeout_ms,
            lambda name, data: _keep(said[name], data),
        )
        after = self._session.sandbox.stats()
        stdout, stderr = (bytes(said[name].data).decode("utf-8", "replace") for name in ("stdout", "stderr"))
        return Compile(
            stdout,
            stderr,
            end.exit_code,
            round((time.monotonic() - began) * 1000),
            round((after.cpu_ns - before.cpu_ns) / 1e6),
        )

    def _program(self) -> ProcessEnd:
        """Run the program to its end. Raises ChannelEnded or SessionGone with the session."""
        plan = self._plan
        argv = [*plan.argv, *plan.args]
        return self._process(
            argv,
            plan.env,
            plan.stdin,
            plan.limits.timeout_ms,
            self._take_output,
        )

    def _take_output(self, name: str, data: bytes) -> None:
        self._live.output(name, self._out[name].take(data))

    def _process(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: bytes,
        timeout_ms: int,
        on_output: Callable[[str, bytes], None],
    ) -> ProcessEnd:
        """Start a process and see it through. Raises ChannelEnded with the session."""
        variables = {name.encode(): value.encode() for name, value in env.items()}
        self._company.about_to_start()
        channel = self._session.stream.start_process([text.encode() for text in argv], variables, b"/work")
        try:
            end = self._follow(channel, stdin, timeout_ms, on_output)
            # Processes that it has left behind live on; mostly there are none, which is reported at once.
            if not channel.is_closed:
                channel.wait(CLOSED_S)
            return end
        finally:
            if channel.end is None:
                channel.kill()
            channel.close()

    def _follow(
        self, channel: SessionChannel, stdin: bytes, timeout_ms: int, on_output: Callable[[str, bytes], None]
    ) -> ProcessEnd:
        """Move input and output until the main process has ended. Raises ChannelEnded with the session."""
        left = memoryview(stdin)
        has_input = True
        deadline = time.monotonic() + timeout_ms / 1000
        while channel.end is None:
            if has_input:
                left = left[channel.write(bytes(left[: 64 * 1024])) :] if left else left
                if not left:
                    channel.end_input()
                    has_input = False
            deadline = self._check_stops(channel, deadline)
            self._sleep(channel, min(deadline, self._live.log.due()))
            for name, data in channel.take() if not self._live.is_backpressured else ():
                on_output(name, data)
            self._live.tick()
        return channel.end

    def _check_stops(self, channel: SessionChannel, deadline: float) -> float:
        """Kill the run when its time is over or it is not wanted any more; the new deadline.

        Raises ChannelEnded with the session, which is ended where a killed run does not end.
        """
        is_late = time.monotonic() >= deadline
        if self._timed_out or self._is_stopped:
            if is_late:
                # It is out of memory, or its agent does not answer.
                self._lose(self._session, "a run that was killed does not end")
                raise ChannelEnded
            return deadline
        if self._live.stop is None and not is_late:
            return deadline
        self._timed_out, self._is_stopped = is_late, not is_late
        channel.kill()
        return time.monotonic() + KILL_TIMEOUT_S

    def _sleep(self, channel: SessionChannel, until: float) -> None:
        poller = select.poll()
        if not self._live.is_backpressured:
            poller.register(channel, select.POLLIN)
        self._live.register(poller)
        for fd, event in poller.poll(max(0.0, (until - time.monotonic()) * 1000) + 0.5):
            if fd != channel.fileno():
                self._live.handle_event(fd, event)

    # -- the result --------------------------------------------------------------------------------

    def _as_result(  # one argument per source of facts
        self,
        end: ProcessEnd,
        isolation: Isolation,
        started_at: str,
        wall_ms: int,
        before: Stats,
        after: Stats,
        compiled: Compile | None,
        sandbox: Sandbox,
        refused: int | None,
    ) -> Result:
        plan, live = self._plan, self._live
        killed = self._timed_out or self._is_stopped or self._is_over
        reason = self._session.end_reason if self._is_over else None
        ending = ExitFacts(
            exit_code=None if killed and end.signal_number is not None else end.exit_code,
            signal_number=end.signal_number,
            timed_out=self._timed_out,
            cancelled=reason == "deleted" or (self._is_stopped and live.stop == "cancelled"),
            interrupted=self._is_stopped and live.stop == "interrupted",
            broken=end.failed is not None or self._is_over or (self._is_stopped and live.stop == "stopping"),
            oom_kills=1 if reason == "oom" else after.oom_kills - before.oom_kills,
            not_compiled=compiled is not None and compiled.exit_code != 0,
        )
        return ended_result(
            plan,
            live,
            ending,
            self._receiver,
            truncated=(self._out["stdout"].truncated, self._out["stderr"].truncated),
            usage=Usage(
                wall_ms=wall_ms,
                cpu_ms=round((after.cpu_ns - before.cpu_ns) / 1e6),
                max_rss_mb=-(-after.memory_peak_bytes // MIB),
                queue_ms=self._queue_ms,
                shared=self._company.is_shared,
            ),
            isolation=isolation,
            started_at=started_at,
            compiled=compiled,
            sandbox=sandbox,
            refused_before=refused,
            raised=self._raised(),
        )

    def _raised(self) -> str:
        """Return the text of the exception that ended the program, if it is not in stderr."""
        return ""


def write_file(session: LiveSession, path: str, size: int, pieces: Iterable[bytes]) -> Entry:
    """Write a file beneath /work, in place of what is there; its entry. Raises FileRefused and StorageError."""
    with operation(session, b"write", path.encode(), b"", b"%d" % size) as writing:
        writing.send(pieces)
        return Entry.parse(writing.report(whole=True))


def _keep(buffer: OutputBuffer, data: bytes) -> None:
    buffer.data += buffer.take(data)

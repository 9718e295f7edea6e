"""A run in a session: its files, a new process in the session's /work, its output, and what it left in outputs."""

from __future__ import annotations

import logging
import select
import signal
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from config.clock import now
from protocol.job import MAX_ARTIFACTS_BYTES, MAX_SKIPPED_LISTED
from protocol.limits import MIB, JobInvalid
from protocol.result import JobError, Refusal, Result, Usage
from sandbox.agent_client.artifacts import Receiver
from sandbox.agent_client.report import OutputBuffer
from sandbox.engines import EngineError, Stats
from sandbox.frames import ProtocolError, pack
from sandbox.results import ended_result, result_without_run
from sandbox.run.outcome import ExitFacts
from sandbox.run.plan import build_plan
from sandbox.run.stored_outputs import store_outputs
from sandbox.sessions.channel import ChannelEnded, ProcessEnd
from sandbox.sessions.files import Entry, FileRefused, entries, operation
from sandbox.sessions.session import SessionBusy, SessionGone
from sandbox.sessions.stream import TooManyChannels

if TYPE_CHECKING:
    from protocol.job import Job
    from protocol.result import Isolation
    from sandbox.agent_client.client import Storage
    from sandbox.languages import Catalogue
    from sandbox.run.live import LiveRun
    from sandbox.run.plan import ExecutionPlan
    from sandbox.sessions.channel import SessionChannel
    from sandbox.sessions.session import LiveSession
    from sandbox.sessions.table import SessionTable

log = logging.getLogger(__name__)

OUTPUTS = b"/work/outputs"
OUTPUTS_DEPTH = b"32"
MOST_OUTPUTS = b"10000"
#: From the decision to kill a run to its end; a session that takes longer is broken.
KILL_TIMEOUT_S = 5.0
GONE = JobError("the session ended during this run", "session_ended")


@dataclass(frozen=True, slots=True)
class SessionJob:
    """A job of a session that keeps every rule."""

    plan: ExecutionPlan
    session: LiveSession


class SessionExecutor:
    """Runs jobs in their sessions, each on the caller's thread."""

    def __init__(self, catalogue: Catalogue, sessions: SessionTable, storage: Storage) -> None:
        self._catalogue = catalogue
        self._sessions = sessions
        self._storage = storage

    def accept(self, job: Job) -> SessionJob | Refusal:
        """Check a job. What is accepted must be given to `run`."""
        session = self._sessions.get(job.session)
        if session is None or session.spec.key != job.key:
            return Refusal(410, "this session has ended", "session_ended")
        try:
            plan = build_plan(job, self._catalogue)
        except JobInvalid as e:
            return Refusal(400, e.message, e.code, e.param)
        if plan.language.id != session.language.id:
            message = f"language: this session's is {session.language.id}"
            return Refusal(400, message, "invalid_value", "language")
        own = session.limits
        limits = replace(plan.limits, memory_mb=own.memory_mb, cpus=own.cpus, pids=own.pids)
        return SessionJob(replace(plan, limits=limits), session)

    def run(self, accepted: SessionJob, live: LiveRun) -> Result | Refusal:
        """Run what was accepted, after those that came before it in its session."""
        plan, session = accepted.plan, accepted.session
        live.timestamps.accepted = accepted_at = time.monotonic()

        def may_wait() -> bool:
            live.look()
            return live.stop is None

        try:
            with session.in_use(), session.in_order(may_wait) as is_wanted:
                if not is_wanted:
                    return result_without_run(plan, live, None)
                live.timestamps.admitted = live.timestamps.ready = time.monotonic()
                queue_ms = round((time.monotonic() - accepted_at) * 1000)
                live.status("running", queue_ms=queue_ms)
                session.runs += 1
                return _SessionRun(session, plan, live, self._storage, queue_ms).result()
        except SessionBusy:
            return Refusal(409, "so many runs wait in this session already; try again later", "session_busy")
        except FileRefused as e:
            return Refusal(400, f"files: {e.message}", e.code, "files")
        except TooManyChannels:
            return Refusal(409, "this session has all the processes that it may", "session_busy")
        except (SessionGone, ChannelEnded):
            return result_without_run(plan, live, GONE)
        except (ProtocolError, EngineError, OSError):
            log.exception("a run in a session failed")
            self._sessions.end(session.id, "failed")
            return result_without_run(plan, live, GONE)


class _SessionRun:
    """One run under way."""

    def __init__(
        self, session: LiveSession, plan: ExecutionPlan, live: LiveRun, storage: Storage, queue_ms: int
    ) -> None:
        self._session = session
        self._plan = plan
        self._live = live
        self._storage = storage
        self._queue_ms = queue_ms
        room = plan.limits.max_output_bytes
        self._out = {name: OutputBuffer(name, room) for name in ("stdout", "stderr")}
        self._receiver = Receiver(plan.limits, storage)
        self._timed_out = self._is_stopped = self._is_over = False

    def result(self) -> Result:
        """Run it to its end."""
        started_at = now()
        self._write_files()
        before = self._outputs()
        stats = self._session.sandbox.stats()
        began = time.monotonic()
        self._live.emit("phase", {"name": "run"})
        isolation = self._session.isolation
        try:
            end = self._process()
            used = self._session.sandbox.stats()
        except (ChannelEnded, SessionGone):  # what it printed until then is its output
            self._is_over, end, used = True, ProcessEnd(signal_number=signal.SIGKILL), stats
        wall_ms = round((time.monotonic() - began) * 1000)
        self._live.end_of_output()
        try:
            if not self._is_over:
                self._collect(before)
            self._receiver.store(lambda artifact: self._live.emit("artifact", asdict(artifact)))
        except BaseException:
            self._receiver.abort()
            raise
        return self._as_result(end, isolation, started_at, wall_ms, stats, used)

    # -- files in ----------------------------------------------------------------------------------

    def _write_files(self) -> None:
        for path, content in self._plan.files:
            with operation(self._session, b"write", path.encode(), b"", b"%d" % len(content)) as writing:
                writing.send([content])
                writing.report(whole=True)
        for item in self._plan.inputs:
            with operation(self._session, b"write", item.path.encode(), b"", b"%d" % item.size) as writing:
                with self._storage.open_input(item) as stored:
                    writing.send(stored)
                writing.report(whole=True)

    # -- the process -------------------------------------------------------------------------------

    def _process(self) -> ProcessEnd:
        plan = self._plan
        argv = [*(text.encode() for text in plan.argv), *(text.encode() for text in plan.args)]
        env = {name.encode(): value.encode() for name, value in plan.env.items()}
        channel = self._session.stream.start_process(argv, env, b"/work")
        try:
            return self._follow(channel)
        finally:
            if channel.end is None:
                channel.kill()
            channel.close()

    def _follow(self, channel: SessionChannel) -> ProcessEnd:
        """Move input and output until the main process has ended. Raises ChannelEnded with the session."""
        left = memoryview(self._plan.stdin)
        has_input = True
        deadline = time.monotonic() + self._plan.limits.timeout_ms / 1000
        while channel.end is None:
            if has_input:
                left = left[channel.write(bytes(left[: 64 * 1024])) :] if left else left
                if not left:
                    channel.end_input()
                    has_input = False
            deadline = self._check_stops(channel, deadline)
            self._sleep(channel, min(deadline, self._live.log.due()))
            for name, data in channel.take() if not self._live.is_backpressured else ():
                self._live.output(name, self._out[name].take(data))
            self._live.tick()
        return channel.end

    def _check_stops(self, channel: SessionChannel, deadline: float) -> float:
        """Kill the run when its time is over or it is not wanted any more; the new deadline."""
        is_late = time.monotonic() >= deadline
        if self._timed_out or self._is_stopped:
            if is_late:
                raise ProtocolError("a run that was killed does not end")
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

    # -- files out ---------------------------------------------------------------------------------

    def _outputs(self) -> dict[bytes, Entry]:
        """Return what lies beneath outputs, by path; nothing if there is no such directory."""
        try:
            with operation(self._session, b"list", OUTPUTS, OUTPUTS_DEPTH, b"", MOST_OUTPUTS) as listing:
                listing.report(whole=False)
                return {entry.name: entry for entry in entries(listing.content())}
        except FileRefused:
            return {}

    def _collect(self, before: dict[bytes, Entry]) -> None:
        """Keep the files that this run has created or changed, within its limits."""
        limits, total, count, skipped = self._plan.limits, 0, 0, 0
        for path, entry in self._outputs().items():
            if entry.kind == "directory" or before.get(path) == entry:
                continue
            reason = _reason(entry, limits.max_artifact_bytes, MAX_ARTIFACTS_BYTES - total)
            if reason is None and count >= limits.max_artifact_files:
                reason = b"too_many"
            if reason is None:
                count, total = count + 1, total + entry.size
                self._keep(path, entry.size)
                continue
            skipped += 1
            if skipped <= MAX_SKIPPED_LISTED:
                self._receiver.skip(pack([path, reason]))
        self._receiver.end(b"%d" % skipped)

    def _keep(self, path: bytes, size: int) -> None:
        self._receiver.begin(pack([path, b"%d" % size]))
        try:
            with operation(self._session, b"read", OUTPUTS + b"/" + path, b"0", b"%d" % size) as reading:
                reading.report(whole=False)
                for piece in reading.content():
                    self._receiver.data(piece)
        except FileRefused:
            pass  # what is missing is noted as changed

    # -- the result --------------------------------------------------------------------------------

    def _as_result(  # one argument per source of facts
        self, end: ProcessEnd, isolation: Isolation, started_at: str, wall_ms: int, before: Stats, after: Stats
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
        )
        result = ended_result(
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
            ),
            isolation=isolation,
            started_at=started_at,
        )
        return replace(result, outputs=store_outputs(self._storage, result.stdout, result.stderr))


def _reason(entry: Entry, most: int, room: int) -> bytes | None:
    """Return why a file is not kept as an artifact; None if it may be."""
    if entry.kind == "symlink":
        return b"symlink"
    if entry.kind != "file":
        return b"special_file"
    return b"too_large" if entry.size > most or entry.size > room else None

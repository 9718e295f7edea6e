"""Handle the requests at the worker's socket, each one line of JSON.

`{"op":"run","job":{…},"mode":M}`
    `wait` is answered by `{"seq":…,"event":"info",…}` lines for a run that has to wait, `stream` by every event;
    then both by one `{"result":{…}}` or `{"refused":{…}}`. To hang up after a `leave` cancels; without it the run
    is interrupted. `background` is answered by `{"accepted":{"run_id":…}}` or `{"refused":{…}}`.
`{"op":"leave"}`
    not answered: the client of this connection is about to close it.
`{"op":"ack","run_id":R}`
    not answered: the result is recorded.
`{"op":"cancel","run_id":R}`
    `{"cancel":{"known":true|false}}`: whether such a run is alive; it will end cancelled.
`{"op":"has","run_id":R}`
    `{"has":{"known":true|false}}`: whether such a run is alive.
`{"op":"events","run_id":R,"after":N}`
    every event with a greater number, as it happens, then `{"followed":{"known":true|false}}`.
`{"op":"collect"}`
    for ever: `{"runs":{"live":{R:{…},…}}}` once, then `{"status":{…}}` and `{"ended":{"run_id":R,"result":{…}}}` of
    the runs that no connection waits for.
`{"op":"forget","hashes":[H,…]}`
    `{"forgotten":{"hashes":[H,…]}}`: those of these blobs of artifacts that are gone; or `{"refused":{…}}`.
`{"op":"owed","hashes":[H,…]}`
    `{"owed":{"hashes":[H,…]}}`: those of these blobs that a result names which is not acknowledged.
`{"op":"status"}`
    `{"status":{…}}`; or `{"refused":{…}}` by a worker that stops.
`{"op":"metrics"}`
    `{"metrics":{"text":…}}`: what the worker counts, in Prometheus's text format.
`{"op":"posture"}`
    `{"posture":[{"name":…,"layers":[{…},…]}]}`: how each layer of confinement stands, engine by engine.
`{"op":"sandboxes"}`, of root only
    `{"sandboxes":{L:{"words":…,"times":N,"since":…,"remedy":…},…}}`: sandboxes that cannot be made: L, or L/WAY.
`{"op":"run_stdin",…}`, `{"op":"run_signal",…}`
    see `worker.run_input`.
`{"op":"layer","key":K,"id":L}`
    `{"layer":{"facts":{…}}}`: a layer that the key has used; for every other `{"layer":{"facts":null}}`.
`{"op":"session","do":D,…}`
    see `worker.sessions`.
`{"op":"canary","language":L}`, of root only
    `{"canary":{"ok":true|false,"words":…,"remedy":…}}`, after a run of that language's example.
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from config.failpoints import failpoint
from config.logging import bind
from protocol.codec import decode_job
from protocol.job import Job
from protocol.limits import JobInvalid
from protocol.result import JobError, Refusal, Result
from sandbox.executor import AdmittedJob
from sandbox.refusals import STOPPING
from sandbox.results import result_without_run
from sandbox.run.live import EventSink, LiveRun
from sandbox.run.package_layers import layer_facts
from sandbox.run.reply_channel import Message, ReplyChannel
from sandbox.sessions.runs import SessionJob
from storage import SHA256
from storage.errors import StorageUnavailable
from worker.run_input import RunInputHandlers
from worker.runs import DuplicateRun, ResultSubscriber, RunTable, TableFull
from worker.service import Service
from worker.sessions import SessionHandlers

log = logging.getLogger(__name__)

#: A follower of a silent run is looked after this often: whether its connection is still there.
FOLLOW_S = 5.0
#: Blobs removed in one request.
MOST_HASHES = 1000
#: An api sends this job to another worker, which may understand it.
NEWER_JOB = Refusal(503, "no worker of this version is free; nothing was started", "worker_unavailable", None, 5)
MODES = ("wait", "stream", "background")


class RequestHandlers:
    """Answers the requests of one connection after the other; each connection has a thread of its own."""

    def __init__(self, service: Service, runs: RunTable) -> None:
        self._service = service
        self._runs = runs
        self._stopping = threading.Event()
        run_input = RunInputHandlers(runs)
        self._operations: dict[str, Callable[[dict[str, Any], Connection], None]] = {
            "run": self._run,
            "leave": self._leave,
            "ack": self._acknowledge,
            "cancel": self._cancel,
            "has": self._has,
            "events": self._events,
            "collect": self._collect,
            "forget": self._forget,
            "owed": self._owed,
            "status": self._status,
            "metrics": self._metrics,
            "posture": self._posture,
            "sandboxes": self._sandboxes,
            "canary": self._canary,
            "session": SessionHandlers(service.sessions, runs, service.session_executor, service.catalogue).answer,
            "layer": self._layer,
            "run_stdin": run_input.stdin,
            "run_signal": run_input.signal,
        }

    def refuse_runs(self) -> None:
        """Refuse every run from now on, and the status: a service that takes no runs is not ready."""
        self._stopping.set()

    def answer(self, line: bytes, connection: Connection) -> None:
        """Do what one line asks, and answer it. Raises OSError when the peer is gone."""
        try:
            request = orjson.loads(line)
            operation = self._operations.get(request["op"])
        except (orjson.JSONDecodeError, TypeError, KeyError):
            connection.refuse(Refusal(400, "malformed request", "invalid_json"))
            return
        if operation is None:
            connection.refuse(Refusal(400, "unknown operation", "invalid_value"))
            return
        operation(request, connection)

    def on_disconnect(self, connection: Connection) -> None:
        """Handle the end of a connection: results that it waited for are delivered to the collectors."""
        for run_id in connection.unacknowledged:
            self._runs.detach(run_id)

    # -- runs --------------------------------------------------------------------------------------

    def _run(self, request: dict[str, Any], connection: Connection) -> None:
        mode = request.get("mode", "wait")
        if mode not in MODES:
            connection.refuse(Refusal(400, "mode: is not one of those agreed on", "invalid_value"))
            return
        try:
            job = decode_job(request.get("job"))
        except JobInvalid as e:
            if e.code == "unknown_field":  # without it the job would be another one
                log.warning("a job of a newer version is refused: %s", e.message)
                self._refuse(connection, NEWER_JOB)
            else:
                self._refuse(connection, Refusal(400, e.message, e.code, e.param))
            return
        bind(request_id=job.request_id, run_id=job.run_id)
        try:
            self._take(job, mode, connection)
        finally:
            bind()

    def _take(self, job: Job, mode: str, connection: Connection) -> None:
        if self._stopping.is_set():
            self._refuse(connection, STOPPING)
            return
        executor = self._service.session_executor if job.session else self._service.executor
        accepted = executor.accept(job)
        if isinstance(accepted, Refusal):
            self._refuse(connection, accepted)
            return
        try:
            live = self._live_run(job, accepted, mode, connection)
        except (DuplicateRun, TableFull) as e:
            self._abandon(accepted)
            taken = isinstance(e, DuplicateRun)
            self._refuse(
                connection,
                Refusal(409, "run_id: is taken", "run_exists", "run_id")
                if taken
                else Refusal(503, "too many results wait to be acknowledged", "overloaded", None, 2),
            )
            return
        if mode == "background":
            threading.Thread(target=self._in_background, args=(job, accepted, live), daemon=True).start()
            connection.send({"accepted": {"run_id": live.id}})
            return
        connection.unacknowledged.add(live.id)
        outcome = self._execute(accepted, live)
        try:
            if isinstance(outcome, Refusal):
                connection.unacknowledged.discard(live.id)
                connection.refuse(outcome)
            else:
                connection.send({"result": outcome})
        finally:  # after the answer, which must not wait for the log
            self._service.observer.ended(job, live, outcome)

    def _refuse(self, connection: Connection, refusal: Refusal) -> None:
        self._service.observer.refused(refusal)
        connection.refuse(refusal)

    def _live_run(self, job: Job, accepted: AdmittedJob | SessionJob, mode: str, connection: Connection) -> LiveRun:
        language = accepted.plan.language.id
        takes_input = job.stdin_open and isinstance(accepted, AdmittedJob)
        if mode == "background":
            live = LiveRun(job.run_id, language, on_status=self._runs.status, takes_input=takes_input)
        else:
            outlet = EventSink(connection.channel, "all" if mode == "stream" else "status")
            live = LiveRun(job.run_id, language, outlet=outlet, takes_input=takes_input)
        self._runs.add(live)
        return live

    def _in_background(self, job: Job, accepted: AdmittedJob | SessionJob, live: LiveRun) -> None:
        bind(request_id=job.request_id, run_id=job.run_id)
        outcome = self._execute(accepted, live)
        self._service.observer.ended(job, live, outcome)

    def _abandon(self, accepted: AdmittedJob | SessionJob) -> None:
        if isinstance(accepted, AdmittedJob):
            self._service.executor.abandon(accepted)

    def _execute(self, accepted: AdmittedJob | SessionJob, live: LiveRun) -> Result | Refusal:
        """Run the job, and record an end in the table in every case."""
        try:
            if isinstance(accepted, SessionJob):
                outcome = self._service.session_executor.run(accepted, live)
            else:
                outcome = self._service.executor.run(accepted, live)
        except Exception:
            log.exception("a run failed unexpectedly")
            outcome = result_without_run(
                accepted.plan, live, JobError("the service failed to run this", "internal_error")
            )
        if isinstance(outcome, Refusal):
            self._runs.refused(live.id)
        else:
            failpoint("resulted")
            self._runs.ended(live.id, outcome)
        live.end()
        return outcome

    def _acknowledge(self, request: dict[str, Any], connection: Connection) -> None:
        run_id = str(request.get("run_id"))
        connection.unacknowledged.discard(run_id)
        self._runs.acknowledged(run_id)

    def _leave(self, _request: dict[str, Any], _connection: Connection) -> None:
        """Do nothing: the message was for a run that ended at that moment."""

    def _cancel(self, request: dict[str, Any], connection: Connection) -> None:
        live = self._runs.get(str(request.get("run_id")))
        if live is not None:
            live.cancel("cancelled")
        connection.send({"cancel": {"known": live is not None}})

    def _has(self, request: dict[str, Any], connection: Connection) -> None:
        connection.send({"has": {"known": self._runs.get(str(request.get("run_id"))) is not None}})

    # -- looking on --------------------------------------------------------------------------------

    def _events(self, request: dict[str, Any], connection: Connection) -> None:
        after = request.get("after", 0)
        live = self._runs.get(str(request.get("run_id")))
        if not isinstance(after, int) or after < 0:
            connection.refuse(Refusal(400, "after: must be an integer of at least 0", "invalid_value", "after"))
            return
        ended = live is None
        while live is not None and not ended:
            events, ended = live.follow(after, FOLLOW_S)
            if events:
                after = events[-1].seq
                connection.send(*[event.to_json() for event in events])
            elif connection.is_gone():
                raise ConnectionError("the client has disconnected")
        connection.send({"followed": {"known": live is not None}})

    def _collect(self, _request: dict[str, Any], connection: Connection) -> None:
        collector = self._runs.collect()
        threading.Thread(target=self._leave_when_gone, args=(connection, collector), daemon=True).start()
        try:
            while (message := collector.queue.get()) is not None:
                connection.send(message)
        finally:
            self._runs.leave(collector)
        raise ConnectionError("the collector has gone")

    def _leave_when_gone(self, connection: Connection, collector: ResultSubscriber) -> None:
        connection.wait_until_gone()
        self._runs.leave(collector)

    def _owed(self, request: dict[str, Any], connection: Connection) -> None:
        hashes = _hashes(request, connection)
        if hashes is not None:
            owed = self._runs.unacknowledged_artifacts()
            connection.send({"owed": {"hashes": [sha256 for sha256 in hashes if sha256 in owed]}})

    def _forget(self, request: dict[str, Any], connection: Connection) -> None:
        hashes = _hashes(request, connection)
        if hashes is None:
            return
        owed = self._runs.unacknowledged_artifacts()
        try:
            gone = [h for h in hashes if h not in owed and self._service.blobs.artifacts.delete(h)]
        except StorageUnavailable as e:
            log.warning("artifacts cannot be removed: %s", e, extra={"cause": repr(e.__cause__)})
            connection.refuse(Refusal(503, "the storage is unavailable", "storage_unavailable", None, 5))
            return
        connection.send({"forgotten": {"hashes": gone}})

    def _status(self, _request: dict[str, Any], connection: Connection) -> None:
        if self._stopping.is_set():
            connection.refuse(STOPPING)
        else:
            connection.send({"status": self._service.status()})

    def _layer(self, request: dict[str, Any], connection: Connection) -> None:
        supply = self._service.layers
        layer = None if supply is None else supply.known_to(str(request.get("key")), str(request.get("id")))
        connection.send({"layer": {"facts": None if layer is None else layer_facts(layer)}})

    def _posture(self, _request: dict[str, Any], connection: Connection) -> None:
        connection.send({"posture": self._service.postures()})

    def _sandboxes(self, _request: dict[str, Any], connection: Connection) -> None:
        if self._is_root(connection):
            connection.send({"sandboxes": self._service.sandboxes()})

    def _canary(self, request: dict[str, Any], connection: Connection) -> None:
        if self._is_root(connection):
            connection.send({"canary": self._service.canary(str(request.get("language")))})

    def _is_root(self, connection: Connection) -> bool:
        """Return whether root asks: the engine's messages describe the host, which api must not know."""
        if not connection.is_root:
            connection.refuse(Refusal(403, "root alone may ask this", "forbidden"))
        return connection.is_root

    def _metrics(self, _request: dict[str, Any], connection: Connection) -> None:
        connection.send({"metrics": {"text": self._service.metrics.text()}})


class Connection:
    """One connection of api's or of root's: `unacknowledged` are the runs whose result it has not acknowledged."""

    def __init__(
        self, channel: ReplyChannel, uid: int, pieces: Callable[[], Iterator[bytes]] = lambda: iter(())
    ) -> None:
        """`pieces` reads the bytes that follow a request."""
        self.channel = channel
        self.pieces = pieces
        self.is_root = uid == 0
        self.unacknowledged: set[str] = set()

    def send(self, *messages: Message) -> None:
        """Send messages, waiting until they are taken. Raises OSError."""
        self.channel.send(*messages)

    def refuse(self, refusal: Refusal) -> None:
        """Answer that it is not done, and why."""
        self.send({"refused": refusal.to_json()})

    def is_gone(self) -> bool:
        """Return whether the peer has disconnected."""
        return bool(_poll_hang_up(self.channel, 0))

    def wait_until_gone(self) -> None:
        """Wait for the peer to hang up."""
        _poll_hang_up(self.channel, None)


def _hashes(request: dict[str, Any], connection: Connection) -> list[str] | None:
    """Return the hashes of a request; None if they are none, which is answered."""
    hashes = request.get("hashes")
    if (
        isinstance(hashes, list)
        and len(hashes) <= MOST_HASHES
        and all(isinstance(sha256, str) and SHA256.fullmatch(sha256) for sha256 in hashes)
    ):
        return hashes
    connection.refuse(Refusal(400, "hashes: must be a list of SHA-256 hashes", "invalid_value", "hashes"))
    return None


def _poll_hang_up(channel: ReplyChannel, timeout_ms: float | None) -> list[tuple[int, int]]:
    poller = select.poll()
    try:
        poller.register(channel.closed_fd(), select.POLLRDHUP)
    except (ValueError, OSError):  # closed on this side
        return [(0, 0)]
    return poller.poll(timeout_ms)

"""Ask one worker over any kind of connection that carries a stream of bytes, in lines of JSON.

Theory of operation. A connection carries one request at a time and is kept for the next one. The request is
one line; the answer is zero or more event lines and one last line (`worker.handlers` lists them). LEAVE on a
connection cancels the run that it waits for. A connection that ends without LEAVE belonged to a killed process,
and its run is interrupted. A result is acknowledged once the caller has recorded it; until then the worker
keeps it.

The progress at which a connection breaks decides the state of the run (`dispatch.connection`). Only when it
is certain that nothing was started may the job be sent again, and only when the connection was a kept one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import orjson

from dispatch import EventsUnknown, FeedItem, WorkerLost, WorkerUnavailable
from dispatch.connection import ConnectionLost, NotDelivered, WorkerConnection
from dispatch.source import NOTHING_YET
from protocol.codec import encode_job
from protocol.job import Job
from protocol.result import Refusal

if TYPE_CHECKING:
    from dispatch.source import MessageSource

STATUS_TIMEOUT_S = 5.0
FORGET_TIMEOUT_S = 60.0
#: Time of a run besides its own wall clock and the queue: compiling, a cold start, collecting, sending.
RUN_MARGIN_S = 75.0
DEFAULT_TIMEOUT_MS = 10_000
DEFAULT_PACKAGES_S = 180.0
IDLE_MAX = 64
#: A live run sends an event at least every few seconds (`sandbox.run.events.KEEPALIVE_S`).
EVENT_TIMEOUT_S = 60.0
#: Practically unlimited, and within the milliseconds of poll(2).
COLLECT_S = 10 * 86_400.0

Event = Callable[[dict[str, Any]], None]
Keep = Callable[[dict[str, Any]], bool]
Messages = Generator[dict[str, Any], None, None]


class WorkerClient:
    """Reaches one worker (`dispatch.Dispatcher`). Safe for many threads."""

    def __init__(
        self,
        connect: Callable[[], WorkerConnection],
        *,
        idle_max: int = IDLE_MAX,
        queue_wait_s: float = 30.0,
        packages_timeout_s: float = DEFAULT_PACKAGES_S,
        submit_timeout_s: float = STATUS_TIMEOUT_S,
    ) -> None:
        """`connect` opens a connection, or raises WorkerUnavailable; `idle_max` are kept for the next requests.

        `packages_timeout_s` is what a run that asks for packages may wait for them.
        """
        self._connect = connect
        self._idle_max = idle_max
        self._queue_wait_s = queue_wait_s
        self._packages_timeout_s = packages_timeout_s
        self._submit_timeout_s = submit_timeout_s
        # A list is the pool: append and pop are atomic, and the connection used last is the warmest.
        self._idle: list[WorkerConnection] = []

    def run(
        self,
        job: Job,
        *,
        client_fd: int | None = None,
        on_event: Event | None = None,
        keep: Keep | None = None,
    ) -> dict[str, Any] | Refusal:
        """Run a job and wait for its end; see `dispatch.Dispatcher.run`."""
        message: dict[str, Any] = {}
        with closing(self._job(job, "wait", client_fd)) as messages:
            for message in messages:
                if "event" in message:
                    if on_event is not None:
                        on_event(message)
                elif "result" in message and keep is not None and not keep(message["result"]):
                    break  # to leave without asking for more is not to acknowledge
        return message["result"] if "result" in message else _refusal(message.get("refused"))

    def stream(self, job: Job, *, client_fd: int | None = None, source: MessageSource | None = None) -> Messages:
        """Run a job and yield its events; see `dispatch.Dispatcher.stream`."""
        return self._job(job, "stream", client_fd, source)

    def submit(self, job: Job) -> Refusal | None:
        """Hand a job over without waiting for its end; see `dispatch.Dispatcher.submit`."""
        (message,) = self._asked(_job_line(job, "background"), self._submit_timeout_s, ("accepted", "refused"))
        return None if "accepted" in message else _refusal(message["refused"])

    def cancel(self, run_id: str) -> bool:
        """Have a run end early; see `dispatch.Dispatcher.cancel`."""
        (message,) = self._ask({"op": "cancel", "run_id": run_id}, ("cancel",))
        return bool(message["cancel"].get("known"))

    def events(
        self, run_id: str, after: int, *, client_fd: int | None = None, source: MessageSource | None = None
    ) -> Messages:
        """Follow a live run; see `dispatch.Dispatcher.events`."""
        line = _line({"op": "events", "run_id": run_id, "after": after})
        last = ("followed", "refused")
        tells = source is not None
        try:
            for message in self._exchange(
                line, EVENT_TIMEOUT_S, client_fd, last, per_message=True, source=source, tells=tells
            ):
                if message is NOTHING_YET or "event" in message:
                    yield message
                elif not message.get("followed", {}).get("known"):
                    raise EventsUnknown(run_id)
        except ConnectionLost as e:
            raise WorkerLost(str(e)) from e

    def collect(self, *, client_fd: int | None = None) -> Generator[FeedItem, None, None]:
        """Yield messages about runs without a waiting connection; see `dispatch.Dispatcher.collect`."""
        try:
            for message in self._exchange(b'{"op":"collect"}\n', COLLECT_S, client_fd, (), per_message=True):
                for kind in ("runs", "status", "ended"):
                    if isinstance(found := message.get(kind), dict):
                        yield FeedItem(kind, found)
        except ConnectionLost as e:
            raise WorkerLost(str(e)) from e

    def acknowledge(self, run_id: str) -> None:
        """Acknowledge a recorded result; see `dispatch.Dispatcher.acknowledge`."""
        connection, _ = self._take()
        try:
            connection.send_oneway(_ack_line(run_id))
        except OSError as e:
            connection.close()
            raise WorkerUnavailable("the worker went away") from e
        self._release(connection)

    def acknowledge_surely(self, run_id: str) -> None:
        """Acknowledge a recorded result, and wait until the worker knows. Raises WorkerUnavailable."""
        line = _ack_line(run_id) + _line({"op": "owed", "hashes": []})
        try:
            self._asked(line, STATUS_TIMEOUT_S, ("owed", "refused"))
        except WorkerLost as e:
            raise WorkerUnavailable(str(e)) from e

    def has_run(self, run_id: str) -> bool:
        """Return whether the worker has this run, alive. Raises WorkerUnavailable."""
        (message,) = self._ask({"op": "has", "run_id": run_id}, ("has", "refused"))
        return message.get("has", {}).get("known") is True

    def owed(self, hashes: Sequence[str]) -> set[str]:
        """Return those of these blobs that results name which are not acknowledged. Raises WorkerUnavailable."""
        (message,) = self._ask({"op": "owed", "hashes": list(hashes)}, ("owed", "refused"))
        found = message.get("owed", {}).get("hashes")
        if not isinstance(found, list):
            raise WorkerUnavailable("the worker does not tell which blobs it needs")
        return set(map(str, found))

    def forget(self, hashes: Sequence[str]) -> list[str]:
        """Have blobs of artifacts removed; see `dispatch.Dispatcher.forget`."""
        line = _line({"op": "forget", "hashes": list(hashes)})
        try:
            (message,) = self._asked(line, FORGET_TIMEOUT_S, ("forgotten", "refused"))
        except WorkerLost as e:
            raise WorkerUnavailable(str(e)) from e
        if "refused" in message:
            raise WorkerUnavailable("the worker cannot remove artifacts now")
        gone = message["forgotten"].get("hashes")
        return [sha256 for sha256 in hashes if isinstance(gone, list) and sha256 in gone]

    def status(self) -> dict[str, Any]:
        """Return the worker's status; see `dispatch.Dispatcher.status`."""
        (message,) = self._ask({"op": "status"}, ("status", "refused"))
        status = message.get("status")
        if not isinstance(status, dict):
            raise WorkerUnavailable("the worker does not tell its status: it stops, or is of another version")
        return status

    def layer_facts(self, key: str, layer_id: str) -> dict[str, Any] | None:
        """Return the facts of a layer; see `dispatch.Dispatcher.layer_facts`."""
        (message,) = self._ask({"op": "layer", "key": key, "id": layer_id}, ("layer",))
        facts = message["layer"].get("facts")
        return facts if isinstance(facts, dict) else None

    def metrics(self) -> str:
        """Return the worker's metrics; see `dispatch.Dispatcher.metrics`."""
        (message,) = self._ask({"op": "metrics"}, ("metrics", "refused"))
        return str(message.get("metrics", {}).get("text", ""))

    def close(self) -> None:
        """Close the kept connections; those in use are closed by who uses them."""
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    # -- exchanges ---------------------------------------------------------------------------------

    def _job(self, job: Job, mode: str, client_fd: int | None, source: MessageSource | None = None) -> Messages:
        """Yield the messages of a run; the last is a result (acknowledged when more is asked for) or a refusal."""
        timeout_s = job.limits.get("timeout_ms", DEFAULT_TIMEOUT_MS) / 1000
        allowed_s = timeout_s + self._queue_wait_s + RUN_MARGIN_S
        if job.packages:
            allowed_s += self._packages_timeout_s
        if job.session:  # it waits for those before it, each of which has its own time
            allowed_s = COLLECT_S
        last = ("result", "refused")
        try:
            yield from self._exchange(
                _job_line(job, mode), allowed_s, client_fd, last, run_id=job.run_id, source=source
            )
        except ConnectionLost as e:
            raise WorkerLost(str(e)) from e

    def _ask(self, request: dict[str, Any], last: tuple[str, ...]) -> list[dict[str, Any]]:
        try:
            return self._asked(_line(request), STATUS_TIMEOUT_S, last)
        except WorkerLost as e:
            raise WorkerUnavailable(str(e)) from e

    def _asked(self, line: bytes, allowed_s: float, last: tuple[str, ...]) -> list[dict[str, Any]]:
        try:
            return list(self._exchange(line, allowed_s, None, last))
        except ConnectionLost as e:
            raise WorkerLost(str(e)) from e

    def _exchange(
        self,
        line: bytes,
        allowed_s: float,
        client_fd: int | None,
        last: tuple[str, ...],
        *,
        run_id: str | None = None,
        per_message: bool = False,
        source: MessageSource | None = None,
        tells: bool = False,
    ) -> Messages:
        """Yield the messages that answer a line, up to one of the kinds in `last`.

        They may take `allowed_s` in all, or each (`per_message`). The result of `run_id` is acknowledged when the
        next message is requested. An end before that leaves the connection, which cancels what it waits for.
        `source` tells where the next message comes from; with `tells` NOTHING_YET comes first.
        """
        connection, kept = self._take()
        finished = False
        try:
            while not finished:
                try:
                    answers = connection.messages(
                        line, allowed_s, client_fd=client_fd, per_message=per_message, tells=tells
                    )
                    with nullcontext() if source is None else source.reading(connection, allowed_s):
                        for message in answers:
                            finished = any(isinstance(message.get(kind), dict) for kind in last)
                            if not finished and last and "event" not in message and message is not NOTHING_YET:
                                raise ConnectionLost("the answer is none of those agreed on")
                            yield message
                            if finished:
                                break
                except NotDelivered as e:
                    connection.close()
                    if not kept:
                        raise WorkerUnavailable("the worker went away before it took the request") from e
                    connection, kept = self._connect(), False
            if run_id is not None and "result" in message:
                with suppress(OSError):  # then the worker keeps the result for who collects
                    connection.send_oneway(_ack_line(run_id))
        except BaseException:
            finished = False
            raise
        finally:
            if finished:
                self._release(connection)
            else:
                connection.leave()

    def _take(self) -> tuple[WorkerConnection, bool]:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if connection.is_fresh():
                return connection, True
            connection.close()
        return self._connect(), False

    def _release(self, connection: WorkerConnection) -> None:
        if len(self._idle) < self._idle_max:
            self._idle.append(connection)
        else:
            connection.close()


def _line(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


def _job_line(job: Job, mode: str) -> bytes:
    return _line({"op": "run", "job": encode_job(job), "mode": mode})


def _ack_line(run_id: str) -> bytes:
    return _line({"op": "ack", "run_id": run_id})


def _refusal(data: object) -> Refusal:
    if not isinstance(data, dict):
        raise WorkerLost("the worker's answer is neither a result nor a refusal")
    try:
        return Refusal(**data)
    except TypeError as e:
        raise WorkerLost("the worker's refusal is not readable") from e

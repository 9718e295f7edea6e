"""Many hosts: api reaches all workers through RabbitMQ, with the lines of the Unix socket.

The lines are those of `dispatch.worker_client`, and `transport` carries them.

A job goes to the worker with the most free places of those that can run it. If that is known not to have begun it,
because its queue is full or the message did not arrive, another one is asked. A worker that is gone while it has a
run is not: then the run is lost (`WorkerLost`), as its program may have been started.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dispatch import DispatchError, EventsUnknown, FeedItem, WorkerUnavailable
from dispatch.amqp_feed import SETTLED_S, MergedFeed
from dispatch.amqp_merge import merge_metrics, merge_status
from dispatch.amqp_workers import RemoteWorker, WorkerDirectory
from dispatch.connection import ConnectionLost, NotDelivered, WorkerConnection
from dispatch.worker_client import DEFAULT_PACKAGES_S, Event, Keep, Messages, WorkerClient
from protocol.job import Job
from protocol.result import Refusal
from transport.opener import OpenedConversation, OpeningEndpoint

if TYPE_CHECKING:
    import socket

    from dispatch.source import MessageSource
    from transport.access import BrokerAccess
    from transport.endpoint import Peer

T = TypeVar("T")

#: Workers that are asked at the same time.
ASKERS = 16
#: Seconds for which a process that starts waits for a worker.
START_S, START_LOOK_S = 3.0, 0.02
#: A job that is handed over may have to wait for a broker that restarts.
SUBMIT_TIMEOUT_S = 30.0
#: A refusal of these codes means that another worker may have room, or understand the job.
ELSEWHERE = ("overloaded", "worker_unavailable")


class BrokerConnection(WorkerConnection):
    """A connection to a worker through the broker."""

    __slots__ = ("_conversation",)

    def __init__(self, sock: socket.socket, conversation: OpenedConversation) -> None:
        super().__init__(sock)
        self._conversation = conversation

    def _receive(self, held: int, *, started: bool) -> bytes:
        try:
            return super()._receive(held, started=started)
        except (ConnectionLost, NotDelivered) as e:
            if not self._conversation.is_begun:
                raise NotDelivered from e
            raise ConnectionLost(self._conversation.reason) from e


class AmqpDispatcher:
    """Reaches the workers of many hosts (`dispatch.Dispatcher`). Safe for many threads, after a fork."""

    def __init__(
        self,
        access: BrokerAccess,
        queue: str,
        *,
        queue_wait_s: float = 30.0,
        packages_timeout_s: float = DEFAULT_PACKAGES_S,
    ) -> None:
        """`queue` is the beginning of the names of all queues."""
        self._queue_wait_s = queue_wait_s
        self._packages_timeout_s = packages_timeout_s
        self.directory = WorkerDirectory()
        self._endpoint = OpeningEndpoint(
            access, queue, on_worker=self._on_worker, on_worker_gone=lambda peer: self.directory.remove(peer.name)
        )
        #: Finds the worker of a session (`dispatch.amqp_sessions`).
        self.find_session: Callable[[str], RemoteWorker] | None = None
        self._askers = ThreadPoolExecutor(ASKERS, thread_name_prefix="ask-workers")

    def start(self) -> None:
        """Connect to the broker and stay connected; wait a while for a first worker, so that requests find one."""
        self._endpoint.start()
        deadline = time.monotonic() + START_S
        while not (self.is_connected and self.directory.known()) and time.monotonic() < deadline:
            time.sleep(START_LOOK_S)

    def close(self) -> None:
        """Disconnect: runs that clients of this process wait for are interrupted."""
        self._endpoint.stop()
        self._askers.shutdown(wait=False, cancel_futures=True)

    @property
    def is_connected(self) -> bool:
        """Return whether the broker takes and delivers messages now."""
        return self._endpoint.is_connected

    def _on_worker(self, peer: Peer) -> None:
        known = self.directory.find(peer.name)
        self.directory.announce(known or self._new_worker(peer), peer.facts)

    def _new_worker(self, peer: Peer) -> RemoteWorker:
        def client(*, is_durable: bool) -> WorkerClient:
            return WorkerClient(
                functools.partial(self._connect, peer, is_durable=is_durable),
                idle_max=0,
                queue_wait_s=self._queue_wait_s,
                packages_timeout_s=self._packages_timeout_s,
                submit_timeout_s=SUBMIT_TIMEOUT_S,
            )

        def connect() -> socket.socket:
            self._require_broker()
            return self._endpoint.open(peer)[0]

        return RemoteWorker(peer, client(is_durable=True), client(is_durable=False), connect)

    def _connect(self, peer: Peer, *, is_durable: bool) -> WorkerConnection:
        self._require_broker()
        return BrokerConnection(*self._endpoint.open(peer, is_durable=is_durable))

    # -- runs --------------------------------------------------------------------------------------

    def run(
        self,
        job: Job,
        *,
        client_fd: int | None = None,
        on_event: Event | None = None,
        keep: Keep | None = None,
    ) -> dict[str, Any] | Refusal:
        """Run a job and wait for its end; see `dispatch.Dispatcher.run`."""
        return self._placed(
            job, lambda worker: worker.jobs.run(job, client_fd=client_fd, on_event=on_event, keep=keep)
        )

    def submit(self, job: Job) -> Refusal | None:
        """Hand a job over without waiting for its end; see `dispatch.Dispatcher.submit`."""

        def attempt(worker: RemoteWorker) -> Refusal | None:
            refusal = worker.jobs.submit(job)
            if refusal is None:
                self.directory.hand_over(worker, job.run_id)
            return refusal

        return self._placed(job, attempt)

    def stream(self, job: Job, *, client_fd: int | None = None, source: MessageSource | None = None) -> Messages:
        """Run a job and yield its events; see `dispatch.Dispatcher.stream`."""
        tried: set[str] = set()
        while True:
            worker = self._worker_for(job, tried)
            if isinstance(worker, Refusal):
                yield {"refused": worker.to_json()}
                return
            tried.add(worker.name)
            with (
                self.directory.carrying(worker, job.run_id),
                closing(worker.jobs.stream(job, client_fd=client_fd, source=source)) as messages,
            ):
                try:
                    first = next(messages)
                except WorkerUnavailable:
                    if self._is_another_left(job, tried):
                        continue
                    raise
                if _may_run_elsewhere(first.get("refused")) and self._is_another_left(job, tried):
                    continue
                yield first
                yield from messages
                return

    def _placed(self, job: Job, attempt: Callable[[RemoteWorker], T | Refusal]) -> T | Refusal:
        """Have a job done by one worker after the other, until one of them has begun it or none is left."""
        tried: set[str] = set()
        while True:
            worker = self._worker_for(job, tried)
            if isinstance(worker, Refusal):
                return worker
            tried.add(worker.name)
            try:
                with self.directory.carrying(worker, job.run_id):
                    answer = attempt(worker)
            except WorkerUnavailable:
                if self._is_another_left(job, tried):
                    continue
                raise
            if not (isinstance(answer, Refusal) and answer.code in ELSEWHERE and self._is_another_left(job, tried)):
                return answer

    def _worker_for(self, job: Job, tried: set[str]) -> RemoteWorker | Refusal:
        self._require_broker()
        found: RemoteWorker | Refusal | None
        if job.session and self.find_session is not None:
            found = None if tried else self.find_session(job.session)
        else:
            found = self.directory.place(job, tried)
        if found is None:
            raise WorkerUnavailable("no worker that can run this is left")
        return found

    def _is_another_left(self, job: Job, tried: set[str]) -> bool:
        with suppress(WorkerUnavailable):
            return isinstance(self._worker_for(job, tried), RemoteWorker)
        return False

    def worker_for(self, job: Job) -> RemoteWorker:
        """Return the worker with the most free places of those that can run a job. Raises WorkerUnavailable."""
        worker = self._worker_for(job, set())
        if isinstance(worker, Refusal):
            raise WorkerUnavailable(worker.message)
        return worker

    def worker_of_run(self, run_id: str) -> RemoteWorker:
        """Return the worker that has a live run; any if none has it. Raises WorkerUnavailable."""
        self._require_broker()
        known = self.directory.home(run_id)
        if known is not None:
            return known
        workers = self.directory.all()
        found = self.ask_all(lambda worker: worker.requests.has_run(run_id), workers)
        return next((worker for worker, has in zip(workers, found, strict=True) if has), workers[0])

    def cancel(self, run_id: str) -> bool:
        """Have a run end early, wherever it is; see `dispatch.Dispatcher.cancel`."""
        self._require_broker()
        failed = False
        for worker in self.directory.by_likelihood(run_id):
            try:
                if worker.requests.cancel(run_id):
                    return True
            except WorkerUnavailable:
                failed = True
        if failed:
            raise WorkerUnavailable("not every worker answers")
        return False

    def events(
        self, run_id: str, after: int, *, client_fd: int | None = None, source: MessageSource | None = None
    ) -> Messages:
        """Follow a live run, wherever it is; see `dispatch.Dispatcher.events`."""
        self._require_broker()
        for worker in self.directory.by_likelihood(run_id):
            with suppress(EventsUnknown):
                yield from worker.requests.events(run_id, after, client_fd=client_fd, source=source)
                return
        raise EventsUnknown(run_id)

    def collect(self, *, client_fd: int | None = None) -> Iterator[FeedItem]:
        """Yield what all workers say of runs without a connection; see `dispatch.Dispatcher.collect`.

        While the broker cannot be reached nothing comes: no run is given up for that.
        """
        return MergedFeed(self.directory, self._endpoint.connected_s).items(client_fd)

    def acknowledge(self, run_id: str) -> None:
        """Acknowledge a recorded result; see `dispatch.Dispatcher.acknowledge`."""
        worker = self.directory.home(run_id)
        if worker is None:
            raise WorkerUnavailable("the worker that has this result is not there")
        worker.requests.acknowledge_surely(run_id)

    # -- questions to all workers ------------------------------------------------------------------

    def forget(self, hashes: Sequence[str]) -> list[str]:
        """Have blobs of artifacts removed; see `dispatch.Dispatcher.forget`.

        Every worker is asked first for those that its results name.
        """
        workers = self._all()
        owed: set[str] = set().union(*self.ask_all(lambda worker: worker.requests.owed(hashes), workers))
        free = [sha256 for sha256 in hashes if sha256 not in owed]
        return workers[0].requests.forget(free) if free else []

    def status(self) -> dict[str, Any]:
        """Return the status of all workers as one; see `dispatch.Dispatcher.status`."""
        return merge_status(self._ask_those_there(lambda worker: worker.requests.status()))

    def layer_facts(self, key: str, layer_id: str) -> dict[str, Any] | None:
        """Return the facts of a layer that any worker knows; see `dispatch.Dispatcher.layer_facts`."""
        found = self._ask_those_there(lambda worker: worker.requests.layer_facts(key, layer_id))
        return next((facts for facts in found if facts is not None), None)

    def metrics(self) -> str:
        """Return the metrics of all workers, each with the label `worker`; see `dispatch.Dispatcher.metrics`."""
        found = self._ask_those_there(lambda worker: (worker.name, worker.requests.metrics()))
        return merge_metrics(found)

    def _require_broker(self) -> None:
        if not self._endpoint.is_connected:
            raise WorkerUnavailable("the broker cannot be reached")

    def _all(self) -> list[RemoteWorker]:
        self._require_broker()
        return self.directory.all()

    def require_all_workers(self) -> None:
        """Raise WorkerUnavailable unless every worker that lives has had the time to announce itself."""
        if self._endpoint.connected_s() < SETTLED_S:
            raise WorkerUnavailable("not every worker has announced itself yet")

    def ask_all(self, question: Callable[[RemoteWorker], T], workers: list[RemoteWorker] | None = None) -> list[T]:
        """Ask workers at the same time, all by default. Raises what the first of them raises that fails."""
        return list(self._askers.map(question, self._all() if workers is None else workers))

    def _ask_those_there(self, question: Callable[[RemoteWorker], T]) -> list[T]:
        """Ask all workers and return the answers. Raises WorkerUnavailable if there is none."""

        def asked(worker: RemoteWorker) -> tuple[T] | None:
            try:
                return (question(worker),)
            except DispatchError:
                return None

        answers = [answer[0] for answer in self.ask_all(asked) if answer is not None]
        if not answers:
            raise WorkerUnavailable("no worker answers")
        return answers


def _may_run_elsewhere(refused: object) -> bool:
    return isinstance(refused, dict) and refused.get("code") in ELSEWHERE

"""Many hosts: a session stays on the worker that has created it, and every api process finds it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dispatch.sessions import WorkerSessions
from dispatch.worker_client import DEFAULT_PACKAGES_S
from protocol.job import Job

if TYPE_CHECKING:
    import socket

    from dispatch.amqp import AmqpDispatcher
    from dispatch.amqp_workers import RemoteWorker


class AmqpSessions(WorkerSessions):
    """Reaches the sessions of all workers at the broker, and the input of their live runs."""

    def __init__(self, dispatcher: AmqpDispatcher, *, packages_timeout_s: float = DEFAULT_PACKAGES_S) -> None:
        """`packages_timeout_s` is what a session that asks for packages may wait for them."""
        super().__init__(self._open, packages_timeout_s=packages_timeout_s)
        self._dispatcher = dispatcher
        dispatcher.find_session = self._worker_of

    def all_facts(self) -> list[dict[str, Any]]:
        """Return the facts of all sessions that live, if every worker can list its own."""
        self._dispatcher.require_all_workers()
        return [facts for found in self._dispatcher.ask_all(_facts_at) for facts in found]

    def facts(self, session_id: str) -> dict[str, Any] | None:
        """Return the facts of a session; None for one that no worker knows."""
        worker = self._dispatcher.directory.home(session_id)
        if worker is not None:
            return _at(worker).facts(session_id)
        return self._searched(session_id)[1]

    def _open(self, request: dict[str, Any]) -> socket.socket:
        if request.get("do") == "create":
            return self._place(request["session"]).connect()
        if "run_id" in request:
            return self._dispatcher.worker_of_run(str(request["run_id"])).connect()
        return self._worker_of(str(request["id"])).connect()

    def _place(self, session: dict[str, Any]) -> RemoteWorker:
        needs = Job(run_id="", language=str(session["language"]), isolation=session.get("isolation") or "default")
        worker = self._dispatcher.worker_for(needs)
        self._dispatcher.directory.remember(str(session["session_id"]), worker.name)
        self._dispatcher.directory.hand_over(worker, str(session["session_id"]))
        return worker

    def _worker_of(self, session_id: str) -> RemoteWorker:
        """Return the worker of a session; any for one that none knows: it says so. Raises WorkerUnavailable."""
        known = self._dispatcher.directory.home(session_id)
        return known or self._searched(session_id)[0]

    def _searched(self, session_id: str) -> tuple[RemoteWorker, dict[str, Any] | None]:
        workers = self._dispatcher.directory.all()
        for worker, facts in zip(
            workers, self._dispatcher.ask_all(lambda one: _at(one).facts(session_id), workers), strict=True
        ):
            if facts is not None:
                self._dispatcher.directory.remember(session_id, worker.name)
                return worker, facts
        self._dispatcher.require_all_workers()
        return workers[0], None


def _at(worker: RemoteWorker) -> WorkerSessions:
    return WorkerSessions(lambda _request: worker.connect())


def _facts_at(worker: RemoteWorker) -> list[dict[str, Any]]:
    return _at(worker).all_facts()

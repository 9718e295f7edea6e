"""Apis and workers with a broker between them, each of which can be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from dispatch.sessions import UnixSessions
from storage.layout import make_areas
from tests.support import marks
from tests.support.apiprocess import Api
from tests.support.marks import Marks
from tests.support.own_service import is_ready, new_state
from tests.support.postgres import Postgres
from tests.support.rabbit import RabbitMQ
from tests.support.service import TOKEN, Service
from tests.support.steady_clients import every_run
from tests.support.workers import Worker, until

#: The first account of each worker's sandboxes, and the room that each has.
UIDS, UIDS_EACH = 0x7D00_0000, 0x0050_0000
#: A killed worker is missed after ten seconds, and then every other one is asked what it has.
SETTLED_S = 60


class Member:
    """One worker, which keeps its state directory and its settings when it is started again."""

    def __init__(self, images: Path, settings: dict[str, str], seen: Marks) -> None:
        self.state = new_state()
        self._images, self._settings = images, settings
        seen.serve(self.state)
        self.worker = self._made()

    def _made(self) -> Worker:
        return Worker(self.state, self._images, **self._settings)

    def kill(self) -> None:
        """Kill the worker, and the processes of its own that would outlive it."""
        children = Path(f"/proc/{self.worker.process.pid}/task/{self.worker.process.pid}/children")
        pids = [self.worker.process.pid, *map(int, children.read_text().split())]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.worker.process.wait(20)

    def kill_runtime(self, choose: Callable[[list[int]], int]) -> None:
        """Kill a process that `choose` takes of all that its sandboxes have."""
        if found := self.worker.sandbox_processes():
            with suppress(ProcessLookupError):
                os.kill(choose(found), signal.SIGKILL)

    def again(self, **changed: str) -> None:
        """Start it again after its end, with some settings changed. Those that are empty are left out."""
        assert self.worker.process.poll() is not None
        self.worker.dispatcher.close()
        self._settings = {name: value for name, value in (self._settings | changed).items() if value}
        self.worker = self._made()

    def is_idle(self) -> bool:
        """Return whether no run is alive here, and no result waits to be acknowledged."""
        if self.worker.dispatcher.status()["queue"] != {"waiting": 0, "running": 0}:
            return False
        with closing(self.worker.dispatcher.collect()) as items:
            return next(items).data["live"] == {}

    def sessions(self) -> list[str]:
        """Return the ids of the sessions that live here."""
        return [facts["id"] for facts in UnixSessions(self.state / "run/worker.sock").all_facts()]

    def end(self) -> None:
        """Stop it, and check that nothing of it is left."""
        was_running = self.worker.process.poll() is None
        self.worker.stop()
        until(lambda: not self.worker.sandbox_processes(), 20)
        left, parents = self.worker.groups(), self.worker.group_parents()
        for group in (*left, *parents):
            group.rmdir()
        mounts = Path("/proc/self/mountinfo").read_text().count(str(self.state))
        shutil.rmtree(self.state)
        if was_running:
            assert (self.worker.process.returncode, left, parents) == (0, [], []), self.worker.log
        assert mounts == 0


class Cluster:
    """Every part; all share one storage."""

    def __init__(
        self, images: Path, broker: RabbitMQ, queue: str, *, postgres: Postgres | None = None, **settings: str
    ) -> None:
        """`settings` are those of the api."""
        self._images, self.broker, self.queue, self.postgres = images, broker, queue, postgres
        self.marks = Marks()
        self._both = {"AMQP_URL": broker.url, "AMQP_QUEUE": queue, **marks.SETTINGS}
        own = {"MAX_RUNS": "16", "QUEUE_MAX": "100", "EVENT_READERS": "16", "API_KEYS": f"{TOKEN}:dev:1000:1000"}
        if postgres is not None:
            own["DATABASE_URL"] = postgres.new_database()
        self._storage = new_state()
        make_areas(self._storage, os.getuid())
        self._both["STORAGE_DIR"] = str(self._storage)
        self._of_apis = {**own, **self._both, **settings}
        self.api = Api(self._of_apis)
        self.apis = [self.api]
        self.members: list[Member] = []

    @property
    def service(self) -> Service:
        """Return the first api as its clients see it."""
        return self.api.service

    def add_api(self) -> Api:
        """Start one more api, which shares all with the first one but its state directory."""
        self.apis.append(Api(self._of_apis))
        return self.apis[-1]

    def add(self, *, broker_url: str = "", **settings: str) -> Member:
        """Start one more worker. With `broker_url` that is how it reaches the broker."""
        given = {
            **self._both,
            "LANGUAGES": "bash",
            "WARM_POOL": "bash=1",
            "MAX_RUNS": "4",
            "DRAIN_S": "2",
            "UID_BASE": str(UIDS + UIDS_EACH * len(self.members)),
            **({"AMQP_URL": broker_url} if broker_url else {}),
            **settings,
        }
        self.members.append(Member(self._images, given, self.marks))
        return self.members[-1]

    def wait(self, members: Iterable[Member] = ()) -> None:
        """Wait until the api is ready, and these workers, or all."""
        for member in members or self.members:
            member.worker.wait_until_filled(60)
        for api in self.apis:
            api.wait()
            until(lambda api=api: is_ready(api.service), SETTLED_S)

    def run(self, name: str) -> dict[str, Any]:
        """Run a program that leaves a mark and prints it; the run."""
        reply = self.service.post("/v1/runs", json=marks.marked(name, f"echo {name}"))
        assert (reply.status, reply.body.get("stdout")) == (200, f"{name}\n"), reply.body
        return reply.body

    def settle(self) -> list[dict[str, Any]]:
        """Wait until every run has ended and no worker holds anything of one; return all runs."""
        until(lambda: all(run["status"] not in ("queued", "running") for run in every_run(self.service)), SETTLED_S)
        until(lambda: all(member.is_idle() for member in self.members if member.worker.process.poll() is None), 30)
        return every_run(self.service)

    def check(self) -> None:
        """Check that all runs have ended once, and that no program began twice or in secret."""
        runs = self.settle()
        ids = {run["id"] for run in runs}
        assert len(ids) == len(runs)
        assert max(self.marks.runs.values(), default=0) <= 1, self.marks.runs
        assert max(self.marks.names.values(), default=0) <= 1, self.marks.names
        assert set(self.marks.runs) <= ids
        for run in runs:
            # `killed`: the agent of its sandbox was, by `kill_runtime`.
            assert run["status"] in ("succeeded", "failed", "timeout", "cancelled", "killed", "error"), run
            if run["status"] == "succeeded":
                assert self.marks.runs[run["id"]] == 1, run
            check_events(self.service, run)
        used = self.service.get("/v1/usage").body["by_language"].get("bash", {"runs": 0})
        assert used["runs"] == len(runs)

    def queues(self) -> dict[str, tuple[int, int]]:
        """Return the messages and the consumers of each queue at the broker that is of this cluster."""
        lines = self.broker.control("-q", "--no-table-headers", "list_queues", "name", "messages", "consumers")
        rows = (line.split("\t") for line in lines.splitlines() if line.startswith(f"{self.queue}."))
        return {name: (int(messages), int(consumers)) for name, messages, consumers in rows}

    def end(self) -> None:
        """Stop every part, and check that nothing is left."""
        try:
            for member in self.members:
                member.end()
        finally:
            self.marks.close()
            for api in self.apis:
                api.end()
            shutil.rmtree(self._storage)


def check_events(service: Service, run: dict[str, Any]) -> None:
    """Check that the events of an ended run are in order, and that there is one end: that of the run."""
    with service.events(f"/v1/runs/{run['id']}/events") as lines:
        events = [event for _, event in lines]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), events
    ends = [event for event in events if event["event"] in ("result", "error")]
    assert ends == events[-1:], events
    if run["status"] == "error":
        assert (ends[0]["event"], ends[0]["data"]["code"]) == ("error", run["error"]["code"])
    else:
        assert (ends[0]["event"], ends[0]["data"]["status"]) == ("result", run["status"])

"""Every kind of process killed again and again under load: api, worker, sandboxes' runtime, broker, database."""

from __future__ import annotations

import functools
import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.support.apiprocess import Api
from tests.support.cluster import Cluster
from tests.support.marks import marked
from tests.support.own_service import UNREACHABLE
from tests.support.postgres import Postgres
from tests.support.redisserver import Redis
from tests.support.steady_clients import SteadyClient, accepted_by
from tests.support.workers import until

#: How long processes are killed; a minute in `make test-all`.
CHAOS_S = float(os.environ.get("RUNYARD_CHAOS_S", "15"))
CLIENTS, MOST_EACH = 8, 100


@pytest.fixture
def own_postgres():
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def own_redis():
    server = Redis()
    yield server
    server.stop()


def body(name, chance):
    return marked(name, f"echo {name}; sleep 0.{chance.randrange(6)}")


class Part:
    """Something that is killed, and started again by a thread of its own a moment later, as a supervisor does."""

    def __init__(self, name: str, kill: Callable[[], None], start: Callable[[], None]) -> None:
        self.name, self.kills = name, 0
        self._kill, self._start = kill, start
        self._thread = threading.Thread()
        self._failed: list[Exception] = []

    @property
    def is_there(self) -> bool:
        return not self._thread.is_alive()

    def kill(self, away_s: float) -> None:
        self.kills += 1
        self._thread = threading.Thread(target=self._go, args=(away_s,))
        self._thread.start()

    def _go(self, away_s: float) -> None:
        try:
            self._kill()
            time.sleep(away_s)
            self._start()
        except Exception as e:  # noqa: BLE001  # `end` reports it
            self._failed.append(e)

    def end(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()
        assert self._failed == []


def parts_of(cluster: Cluster) -> list[Part]:
    parts = [
        Part("broker", cluster.broker.kill, cluster.broker.start),
        Part("database", cluster.postgres.kill, cluster.postgres.start),
    ]
    for number, api in enumerate(cluster.apis):
        parts.append(Part(f"api {number}", api.kill, lambda api=api: start_api(api)))
    for number, member in enumerate(cluster.members):
        parts.append(Part(f"worker {number}", member.kill, lambda member=member: start_worker(member)))
        chance = random.Random(number)
        kill_one = functools.partial(member.kill_runtime, chance.choice)
        parts.append(Part(f"runtime {number}", kill_one, lambda: None))
    return parts


def start_api(api: Api) -> None:
    """Start an api until it stays: without its database it ends again."""
    api.again()
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if api.process.poll() is not None:
            api.again()
        with suppress(*UNREACHABLE):
            if api.service.get("/healthz", token=None, timeout=5).status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(api.said()[-3000:])


def start_worker(member) -> None:
    member.again()
    member.worker.wait_until_filled(60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_of_every_kind_of_process_under_load(broker, own_postgres, own_redis, start_cluster):
    cluster = start_cluster(broker, postgres=own_postgres, RATELIMIT_URL=own_redis.url, LEASE_S="4")
    cluster.add_api()
    for _ in range(2):
        cluster.add(MAX_RUNS="8", QUEUE_MAX="100")
    cluster.wait()
    chance = random.Random(33)
    parts = parts_of(cluster)
    stop = threading.Event()
    clients = [
        SteadyClient(api.service, number, stop, body=body, keyless=0.3, most=MOST_EACH)
        for number, api in zip(range(CLIENTS), itertools.cycle(cluster.apis), strict=False)
    ]
    ends = time.monotonic() + CHAOS_S
    while time.monotonic() < ends:
        time.sleep(chance.uniform(1, 3))
        # The least killed of those that are there, so that none is left out.
        there = [part for part in parts if part.is_there]
        if there:
            least = min(part.kills for part in there)
            chance.choice([part for part in there if part.kills == least]).kill(chance.uniform(0, 1))
    for part in parts:
        part.end()
    cluster.wait()
    time.sleep(2)
    stop.set()
    for client in clients:
        client.end()
    accepted = accepted_by(clients)
    runs = {run["id"]: run for run in cluster.settle()}
    assert sum(part.kills for part in parts) > CHAOS_S / 6
    assert len(accepted) > CLIENTS
    assert set(accepted.values()) <= set(runs)
    succeeded = {name for name, run_id in accepted.items() if runs[run_id]["status"] == "succeeded"}
    assert len(succeeded) > CLIENTS
    assert all(runs[accepted[name]]["stdout"] == f"{name}\n" for name in succeeded)
    assert [name for client in clients for name in client.refused if cluster.marks.names[name]] == []
    cluster.run("calm")
    cluster.check()
    until(lambda: all(consumers for _, consumers in cluster.queues().values()), 90)
    assert len(cluster.queues()) == len(cluster.apis) + len(cluster.members)
    assert {messages for messages, _ in cluster.queues().values()} == {0}

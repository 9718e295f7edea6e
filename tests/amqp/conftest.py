"""A broker for all tests that do not stop it, and workers and dispatchers that meet there."""

from __future__ import annotations

import itertools
import shutil
from contextlib import closing
from types import SimpleNamespace

import pytest

from config.amqp_url import parse_amqp_url
from dispatch.amqp import AmqpDispatcher
from tests.support.cluster import Cluster
from tests.support.cut_proxy import CutProxy
from tests.support.own_service import new_state
from tests.support.rabbit import RabbitMQ
from tests.support.workers import Worker, until
from transport.access import BrokerAccess

#: The sandboxes' accounts of the workers that a test has at the same time.
UIDS = (0x7D00_0000, 0x7D80_0000)
_queues = itertools.count()


@pytest.fixture(scope="session")
def shared_broker():
    server = RabbitMQ()
    yield server
    server.remove()


@pytest.fixture
def broker():
    """A broker of one test's own, which it may kill."""
    server = RabbitMQ()
    yield server
    server.remove()


@pytest.fixture
def proxy(shared_broker):
    """What is between the broker and those who reach it by `behind`."""
    with closing(CutProxy(shared_broker.port)) as made:
        yield made


@pytest.fixture
def behind(shared_broker, proxy):
    """The broker behind the proxy, for one side alone."""
    return SimpleNamespace(url=shared_broker.url.replace(f":{shared_broker.port}/", f":{proxy.port}/"))


@pytest.fixture
def queue():
    """The beginning of names that no other test has."""
    return f"jobs{next(_queues)}"


@pytest.fixture
def start_worker(service, queue):
    """Start a worker at a broker: `start_worker(broker, LANGUAGES="python")`; two at most."""
    started: list[Worker] = []

    def start(server: RabbitMQ, **settings: str) -> Worker:
        given = {"LANGUAGES": "bash", "WARM_POOL": "bash=2", "MAX_RUNS": "4", "DRAIN_S": "2"}
        given |= {"UID_BASE": str(UIDS[len(started)]), "AMQP_URL": server.url, "AMQP_QUEUE": queue}
        made = Worker(new_state(), service.images, **(given | settings))
        started.append(made)
        made.wait_until_filled(60)
        return made

    yield start
    for made in started:
        made.stop()
    for made in started:
        made.remove()


@pytest.fixture
def start_dispatcher(queue):
    """Start the dispatcher of an api process: `start_dispatcher(broker)`."""
    started: list[AmqpDispatcher] = []

    def start(server: RabbitMQ) -> AmqpDispatcher:
        made = AmqpDispatcher(BrokerAccess(parse_amqp_url(server.url)), queue)
        made.start()
        started.append(made)
        until(lambda: made.is_connected, 20)
        return made

    yield start
    for made in started:
        made.close()


@pytest.fixture
def start_cluster(service, shared_broker, queue):
    """Start an api, to which workers are added: `start_cluster(broker, postgres=…, API_PROCESSES="2")`."""
    started: list[Cluster] = []

    def start(server: RabbitMQ = shared_broker, **options) -> Cluster:
        started.append(Cluster(service.images, server, queue, **options))
        return started[-1]

    yield start
    for made in started:
        made.end()


@pytest.fixture(scope="module")
def lasting_cluster(service, shared_broker):
    """An api and a worker that a module's tests share; its processes die where the file `die_at` of it says."""
    folder = new_state()
    die_at = folder / "die-at"
    die_at.touch()
    images, name = service.images, f"lasting{next(_queues)}"
    made = Cluster(images, shared_broker, name, RUNYARD_DIE_AT=f"file:{die_at}")
    made.die_at = die_at
    made.add()
    made.wait()
    yield made
    made.end()
    shutil.rmtree(folder)

"""Twenty minutes of everything at once: right answers throughout, and afterwards nothing is left of it.

RUNYARD_LOAD_S is the time in seconds (1200). A quarter of it, two minutes at most, is for coming to a steady state:
threads and connections that a service keeps for the next time are made then. After that, what it holds is counted
before and after.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ops.state import StatePlace
from tests.load import load_good, load_hostile, load_leaving
from tests.load.load_held import Held, held, settle, until
from tests.load.load_http import Target
from tests.load.load_ledger import Ledger, Load
from tests.support.place import IMAGES, PORT, STATE
from tests.support.service import Service, make

SECONDS = float(os.environ.get("RUNYARD_LOAD_S", "1200"))
WARM_UP_S = min(120.0, SECONDS / 4)
LOAD_STATE = Path(f"{STATE}-load")
LOAD_PORT = PORT + 7
GOOD, BAD = "load_good_123", "load_bad_456"
SETTINGS = {
    "STATE_DIR": str(LOAD_STATE),
    "IMAGES_DIR": str(IMAGES),
    "PORT": str(LOAD_PORT),
    "API_KEYS": f"{GOOD}:good:10000:10000,{BAD}:bad:10000:10000",
    # Small, so that the queue overflows now and then, and what is kept of ended runs comes to its bound.
    "MAX_RUNS": "12",
    "QUEUE_MAX": "24",
    "EVENT_READERS": "16",
    "RUNS_RETENTION_COUNT": "5000",
}
#: Threads of each sort, and the seconds between their clients' turns: what two processors bear, and a little more.
GOOD_THREADS, HOSTILE_THREADS, LEAVING_THREADS = 4, 3, 4
GOOD_PAUSE_S, OTHER_PAUSE_S, CROWD_PAUSE_S = 0.05, 0.2, 15.0
SEED = 20
BUILT_WITHIN_S = 600.0

#: A service that is full says so; but for most of the time it is not, and other keys' crowds are not ours to pay.
GOOD_SHARE = 0.8
#: What kept connections (a descriptor at each end and a thread in the worker) may differ by. A leak of one in a
#: hundred runs is far beyond.
KEPT_CONNECTIONS = 24
#: What an allocator keeps of what was freed. A kibibyte a run is far beyond, in twenty minutes.
MEMORY_SLACK_MB = 24

#: Those that were replaced and are not gone yet: a predecessor for each of eleven.
MORE_TEMPLATES = 11

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 600)]


@pytest.fixture(scope="module")
def loaded():
    """A service of this test's own, with every language ready."""
    if os.geteuid() != 0:
        pytest.fail("these tests run real sandboxes and need root")
    make("down", **SETTINGS)
    make("up", **SETTINGS)
    try:
        running = Service("127.0.0.1", LOAD_PORT, LOAD_STATE)
        until(
            lambda: len(ready(running)) == len(languages(running)), lambda: f"only {ready(running)}", BUILT_WITHIN_S
        )
        settle(StatePlace(LOAD_STATE.resolve()))
        yield running
    finally:
        make("down", **SETTINGS)


def languages(service: Service) -> tuple[dict[str, Any], ...]:
    return tuple(service.get("/v1/languages", token=None).body["data"])


def ready(service: Service) -> tuple[dict[str, Any], ...]:
    return tuple(language for language in languages(service) if language["ready"])


def load(service: Service, ledger: Ledger, seconds: float, seed: int) -> None:
    """Everybody at once, for a time."""
    spoken, rng = ready(service), Random(seed)

    def target(token: str) -> Target:
        return Target(service.host, service.port, token, spoken, Random(rng.random()))

    everybody = Load(ledger)
    for _ in range(GOOD_THREADS):
        everybody.add(load_good.CLIENTS, target(GOOD), GOOD_PAUSE_S)
    for _ in range(HOSTILE_THREADS):
        everybody.add(load_hostile.CLIENTS, target(BAD), OTHER_PAUSE_S)
    for _ in range(LEAVING_THREADS):
        everybody.add(load_leaving.CLIENTS, target(BAD), OTHER_PAUSE_S)
    everybody.add((load_hostile.crowd,), target(BAD), CROWD_PAUSE_S)
    everybody.run(seconds)


def test_everything_at_once_and_nothing_is_left(loaded):
    place = StatePlace(LOAD_STATE.resolve())
    warm_up, ledger = Ledger(), Ledger()
    load(loaded, warm_up, WARM_UP_S, SEED)
    assert warm_up.wrong == []
    settle(place)
    before = held(place)

    load(loaded, ledger, SECONDS - WARM_UP_S, SEED + 1)
    status = settle(place)
    after = held(place)

    print(f"\n{ledger.table()}\n{before}\n{after}")
    assert ledger.wrong == []
    assert status["queue"] == {"waiting": 0, "running": 0}
    assert unfinished(loaded) == []
    every = (*load_good.CLIENTS, *load_hostile.CLIENTS, *load_leaving.CLIENTS, load_hostile.crowd)
    assert [turn.__name__ for turn in every if not ledger.right[turn.__name__]] == []
    assert ledger.share(load_good.CLIENTS) >= GOOD_SHARE
    assert_back(before, after)


def unfinished(service: Service) -> list[str]:
    """Every accepted run that has no terminal state, those included whose clients never learned their names."""
    return [
        run["id"]
        for token in (GOOD, BAD)
        for status in ("queued", "running")
        for run in service.get(f"/v1/runs?limit=100&status={status}", token=token).body["data"]
    ]


def assert_back(before: Held, after: Held) -> None:
    """What is held is what was held."""
    assert after.exact == before.exact
    assert after.templates <= before.templates + MORE_TEMPLATES
    for was, now in ((before.api, after.api), (before.worker, after.worker)):
        assert now.processes == was.processes
        assert now.threads <= was.threads + KEPT_CONNECTIONS
        assert now.descriptors <= was.descriptors + KEPT_CONNECTIONS
        assert now.memory_mb <= was.memory_mb + MEMORY_SLACK_MB

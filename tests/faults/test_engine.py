"""A Docker daemon that hangs, drops connections, restarts, refuses to create and to remove: behind a socket that
passes everything on to a real one but for what it is told.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox.engines.docker.engine import LABEL_INSTANCE
from tests.support.engine_socket import EngineSocket
from tests.support.workers import Worker, until

COLUMN = "docker/runc"
COLUMNS = os.environ.get("RUNYARD_TEST_COLUMNS", COLUMN).split(",")
pytestmark = [
    pytest.mark.skipif(COLUMN not in COLUMNS, reason=f"RUNYARD_TEST_COLUMNS leaves out {COLUMN}"),
    pytest.mark.timeout(400),
]
CREATE, START, REMOVE = (
    rb"POST \S*/containers/create",
    rb"POST \S*/containers/\w+/start",
    rb"DELETE \S*/containers/",
)
ANYTHING = rb"/containers/|/version|/info"
FILL_S = 240
#: A hung daemon costs a run two of them; twenty seconds each by default.
CALL_TIMEOUT_S = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = Path(f"/var/lib/runyard-test-engine-{os.getpid()}")
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def engine(dockerd, place):
    made = EngineSocket(place / "engine.sock", Path(dockerd.host.removeprefix("unix://")))
    yield made
    made.end()


@pytest.fixture(scope="module")
def worker(service, engine, place):
    state = place / "state"
    state.mkdir(mode=0o755)
    made = Worker(
        state, service.images, ENGINE="docker", DOCKER_HOST=engine.host, WARM_POOL="bash=2",
        LANGUAGES="bash", UID_BASE=str(0x7B00_0000), MAX_RUNS="4",
        DOCKER_TIMEOUT_S=str(CALL_TIMEOUT_S),
    )  # fmt: skip
    try:
        made.wait_until_filled(FILL_S)
        yield made
        assert made.stop() == 0
    finally:
        made.end()


def containers(worker, dockerd):
    return dockerd.client.containers(all=True, filters={"label": f"{LABEL_INSTANCE}={worker.group_name}"})


@pytest.fixture(autouse=True)
def recovers(worker, dockerd):
    """Whatever went wrong: afterwards the pool fills, runs are answered, and nothing but the pool is there."""
    worker.wait_until_filled(FILL_S)
    yield
    until(lambda: worker.run("bash", "echo back").get("stdout") == "back\n", 60)
    worker.wait_until_filled(FILL_S)
    until(lambda: len(containers(worker, dockerd)) == 2, 60)
    assert worker.process.poll() is None


def failed_by_the_engine(result):
    assert (result["status"], result["error"]["code"]) == ("error", "engine_error"), result
    assert "docker" not in result["error"]["message"].lower()
    return True


def test_a_daemon_that_hangs_costs_a_bounded_time_and_nobody_elses(worker, engine):
    with engine.fault(ANYTHING, "hang"), ThreadPoolExecutor(4) as pool:
        # Those that wait are used without a word to the daemon.
        assert [worker.run("bash", "echo warm")["stdout"] for _ in range(2)] == ["warm\n"] * 2
        began = time.monotonic()
        cold = pool.submit(worker.run, "bash", "echo cold")
        while not cold.done():
            asked = time.monotonic()
            assert worker.dispatcher.status()["engine"] == "docker"
            assert time.monotonic() - asked < CALL_TIMEOUT_S / 2
            assert time.monotonic() - began < 4 * CALL_TIMEOUT_S + 10
            time.sleep(0.1)
        failed_by_the_engine(cold.result())


def test_a_daemon_that_drops_its_connections(worker, engine):
    with engine.fault(CREATE, "drop"):
        results = [worker.run("bash", "echo hi") for _ in range(4)]
    assert [result["stdout"] for result in results[:2]] == ["hi\n", "hi\n"]
    assert all(failed_by_the_engine(result) for result in results[2:])


def test_a_stream_that_is_dropped_ends_its_run_and_what_ran(worker, engine, dockerd):
    seen = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(worker.run, "bash", "echo begun; sleep 55", limits={"timeout_ms": 60_000})
        until(lambda: worker.dispatcher.status()["queue"]["running"] == 1, 20)
        seen.wait(1)
        began = time.monotonic()
        engine.cut_streams()
        result = run.result(30)
        assert time.monotonic() - began < 20
    assert result["status"] in ("killed", "error"), result
    until(lambda: not any("sleep" in cmdline for cmdline in _commands(worker)), 20)


def _commands(worker):
    found = []
    for pid in worker.sandbox_processes():
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_daemon_that_restarts(worker, engine):
    engine.end()
    try:
        until(lambda: worker.run("bash", "echo hi")["status"] == "error", 60)
    finally:
        engine.begin()


def test_a_container_that_cannot_be_created(worker, engine):
    with engine.fault(CREATE, "fail") as fault:
        results = [worker.run("bash", "echo hi") for _ in range(12)]  # more than there are uids: each is given back
    assert all(failed_by_the_engine(result) for result in results[2:])
    assert fault.met >= 10


def test_a_container_that_cannot_be_started_is_removed_though_that_fails_twice(worker, engine, dockerd):
    """Made and never started: the daemon does not remove such a one by itself."""
    with engine.fault(REMOVE, "fail", times=2) as removing, engine.fault(START, "fail", times=1) as starting:
        worker.run("bash", "echo hi")  # room for a new one in the pool
        until(lambda: starting.met == 1, 60)
        until(lambda: removing.met == 2, 60)
        until(lambda: all(found["State"] != "created" for found in containers(worker, dockerd)), 60)


def test_a_container_that_is_removed_at_the_third_try(worker, engine, dockerd):
    with engine.fault(REMOVE, "fail", times=2) as fault:
        assert worker.run("bash", "echo hi")["stdout"] == "hi\n"
        until(lambda: fault.met == 2, 60)

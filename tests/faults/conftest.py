"""Workers and services of the tests' own, with settings that the service under test does not have.

`start_worker` and `start_service` start one for a single test. `shared_worker` and `shared_service` are kept for the
next tests of the module that want the same settings.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.own_service import OwnService, SharedService, new_state
from tests.support.service import Service
from tests.support.workers import Worker, until

#: Their sandboxes' accounts: those of a test's own worker, of its service, and of what a module shares.
WORKER_UIDS, SERVICE_UIDS, SHARED_UIDS = 0x7800_0000, 0x7900_0000, 0x7A00_0000


@pytest.fixture
def state():
    """A state directory for one test."""
    path = new_state()
    yield path
    shutil.rmtree(path)


def _new_worker(service: Service, state: Path, uid_base: int, **settings: str) -> Worker:
    """Start a worker on two images of the service under test: each that it has is measured before it serves."""
    settings = {"UID_BASE": str(uid_base), "LANGUAGES": "python,bash", "WARM_POOL": "python=2,bash=2"} | settings
    return Worker(state, service.images, **settings)


def _check_nothing_left(worker: Worker) -> None:
    """Check that a worker has left no control group; one that was killed leaves the empty parents."""
    assert worker.groups() == []
    if worker.process.returncode == 0:
        assert worker.group_parents() == []
    for parent in worker.group_parents():
        parent.rmdir()


@pytest.fixture
def start_worker(service, state):
    """Start a worker: `start_worker(MAX_RUNS="1")`. It is stopped after the test and may leave nothing."""
    started: list[Worker] = []

    def start(**settings: str) -> Worker:
        made = _new_worker(service, state, WORKER_UIDS, **settings)
        started.append(made)
        made.wait_until_filled()
        return made

    yield start
    for made in started:
        made.stop()
    for made in started:
        _check_nothing_left(made)


@pytest.fixture(scope="module")
def _module_worker(service):
    state = new_state()
    made = _new_worker(service, state, SHARED_UIDS)
    made.wait_until_filled()
    yield made
    made.stop()
    _check_nothing_left(made)
    shutil.rmtree(state)


@pytest.fixture
def shared_worker(_module_worker):
    """A worker with the settings of `start_worker()`. After each test it must live, be idle and fill its pool."""
    yield _module_worker
    until(lambda: _is_idle(_module_worker))
    _module_worker.wait_until_filled()


def _is_idle(worker: Worker) -> bool:
    assert worker.process.poll() is None, worker.log.read_text()
    queue = worker.dispatcher.status()["queue"]
    return (queue["running"], queue["waiting"]) == (0, 0)


@pytest.fixture
def start_service(service, state):
    """Start a whole service, api and worker under their supervisor: `start_service(MAX_RUNS="1")`."""
    started: list[OwnService] = []

    def start(**settings: str) -> Service:
        started.append(OwnService(service, state, SERVICE_UIDS, **settings))
        return started[-1].up()

    yield start
    for made in started[-1:]:
        made.down()


@pytest.fixture(scope="module")
def _module_service(service):
    made = SharedService(service, SHARED_UIDS)
    yield made
    made.stop()


@pytest.fixture
def shared_service(_module_service):
    """Start a service as `start_service` does, or return that of the test before: `shared_service(MAX_RUNS="1")`.

    For tests that look at runs and files alone. After each test the service must become ready, and both are
    deleted. Where that fails, the test fails and the next one gets a new service.
    """
    yield _module_service.start
    try:
        _module_service.reset()
    except BaseException:
        _module_service.stop()
        raise


@pytest.fixture(scope="module")
def setuptools_wheel(tmp_path_factory):
    """The wheel that builds of source packages need, from this machine's own index."""
    folder = tmp_path_factory.mktemp("setuptools")
    argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    subprocess.run([*argv, "setuptools==80.9.0"], check=True)
    (file,) = folder.iterdir()
    return file.name, file.read_bytes()

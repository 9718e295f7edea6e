"""Start the service under test once, by the README's own commands."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import settings

# Before they are imported: their assertions show the values compared, as those of test modules do.
pytest.register_assert_rewrite("tests.support")

from tests.support.place import PORT, STATE  # noqa: E402
from tests.support.postgres import Postgres  # noqa: E402
from tests.support.quick import is_quick  # noqa: E402
from tests.support.service import Service, make  # noqa: E402

READY_TIMEOUT_S = 600

# No example has a deadline: on a busy machine any of them may be slow, and none of these tests is about speed.
settings.register_profile("runyard", deadline=None)
settings.load_profile("runyard")


def pytest_collection_modifyitems(items):
    """Mark the tests of `make test-quick`. For several processes put those of faults first: they wait most."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: not item.nodeid.startswith("tests/faults/"))
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if is_quick(item.nodeid, values):
            item.add_marker(pytest.mark.quick)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a folder in one process: they share fixed accounts, ports and daemons."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class LoadFolderScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid.split("/")[1]

    return LoadFolderScheduling(config, log)


@pytest.fixture(scope="session")
def service():
    """The real service with every language built, started by `make up`, ended by `make down`."""
    if os.geteuid() != 0:
        pytest.fail("these tests run real sandboxes and need root")
    running = Service("127.0.0.1", PORT, STATE)
    if os.environ.get("RUNYARD_TEST_REUSE"):  # a service that the developer keeps running there
        yield running
        return
    make("down")
    # The runs and files of earlier tests count against the quotas of the same keys for a day.
    for kept in ("db", "storage", "log"):
        shutil.rmtree(STATE / kept, ignore_errors=True)
    make("up")
    try:
        _wait_for_languages(running)
        yield running
    finally:
        make("down")


@pytest.fixture(scope="session")
def dockerd(service):
    """A Docker daemon of the tests' own; kept with its images under RUNYARD_TEST_REUSE."""
    if shutil.which("dockerd") is None:
        pytest.fail("this needs dockerd: make test-setup installs it")
    from tests.support.dockerd import Dockerd  # unit tests do without the SDK

    running = Dockerd(Path(f"{service.state}-dockerd"))
    yield running
    if os.environ.get("RUNYARD_TEST_REUSE"):
        running.stop()
    else:
        running.remove()


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server for all tests that want a database of it and do not stop it."""
    server = Postgres()
    yield server
    server.remove()


def _wait_for_languages(running: Service) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    waiting = ["all of them"]
    while waiting and time.monotonic() < deadline:
        languages = running.get("/v1/languages", token=None).body["data"]
        waiting = [language["id"] for language in languages if not language["ready"]]
        if waiting:
            time.sleep(1)
    assert not waiting, f"languages not ready after {READY_TIMEOUT_S} s: {waiting}"

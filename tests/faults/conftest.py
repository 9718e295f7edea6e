"""Workers of the tests' own, with settings that the service under test does not have."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from tests.support.service import Service, make
from tests.support.workers import Worker


@pytest.fixture
def state():
    """A state directory that a sandbox's root, who is nobody out here, may pass through."""
    path = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start_worker(service, state):
    """Start a worker: `start_worker(MAX_RUNS="1")`. Ended, and looked behind, at the end."""
    started: list[Worker] = []

    def start(**settings: str) -> Worker:
        settings = {"UID_BASE": str(0x7800_0000), "WARM_POOL": "python=2,bash=2"} | settings
        made = Worker(state, service.state / "images", **settings)
        started.append(made)
        made.wait_until_filled()
        return made

    yield start
    for made in started:
        made.stop()
    for made in started:
        assert made.groups() == []
        parents = Path("/sys/fs/cgroup").glob(f"*/{made.group_name}")
        for parent in parents:
            parent.rmdir()


@pytest.fixture
def start_service(service, state):
    """Start a whole service, api and worker under their supervisor: `start_service(MAX_RUNS="1")`."""

    def start(**settings: str) -> Service:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        place.update(
            {"STATE_DIR": str(state), "PORT": str(port), "IMAGES_DIR": str(service.state / "images")},
            UID_BASE=str(0x7900_0000),
            LANGUAGES="python,bash",
            WARM_POOL="python=2,bash=2",
            **settings,
        )
        # The code is the same; installing it anew takes longer than any test here.
        if not (state / "venv").exists():
            (state / "venv").symlink_to(service.state / "venv")
        make("up", **place)
        return Service("127.0.0.1", port, state)

    place: dict[str, str] = {}
    yield start
    if place:
        make("down", **place)

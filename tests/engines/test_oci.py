"""What only the engine `oci` can get wrong with a runtime other than crun: what is left in the control groups."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests.engines.columns import chosen
from tests.support.workers import Worker, until

RUNTIMES = sorted({name.split("/")[1] for name in chosen() if name.startswith("oci/")})


@pytest.fixture
def start(service):
    """Start a worker of a runtime, again and again in one state directory."""
    state = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    state.chmod(0o755)
    started = []

    def start(runtime):
        settings = {"ENGINE": "oci", "RUNTIME": runtime, "WARM_POOL": "bash=2", "LANGUAGES": "bash"}
        made = Worker(state, service.images, UID_BASE=str(0x7B00_0000), **settings)
        started.append(made)
        made.wait_until_filled(60)
        return made

    yield start
    for made in started:
        made.stop()
    started[-1].end()
    shutil.rmtree(state)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_stopped_worker_leaves_no_control_group(start, runtime):
    worker = start(runtime)
    result = worker.run("bash", "echo hi")
    assert (result["stdout"], result["isolation"]["runtime"]) == ("hi\n", runtime)
    assert worker.stop() == 0
    assert worker.groups() == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_killed_worker_left_is_reaped_by_the_next(start, runtime):
    killed = start(runtime)
    killed.stop(signal.SIGKILL)
    until(lambda: killed.sandbox_processes() == [])
    assert killed.groups() != []
    follower = start(runtime)
    assert follower.stop() == 0
    assert follower.groups() == []

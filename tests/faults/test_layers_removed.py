"""Each layer of confinement taken away in turn: a worker whose sandboxes lack one does not serve, and names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.ids import new_id
from dispatch.unix import UnixDispatcher
from protocol.job import Job
from storage.layout import make_areas
from tests.support.weakened import OCI, WALLS
from tests.support.workers import until

REPO = Path(__file__).resolve().parents[2]
UID_BASE = 0x7800_0000
LAYERS = [*OCI, "root", "cgroup.memory", "cgroup.pids", "cgroup.cpu"]


@pytest.fixture
def start_weakened(state):
    """Start a worker that lacks a layer: `start_weakened("seccomp", images)`; its process and its log."""
    started = []

    def start(layer, images, **settings):
        make_areas(state / "storage", UID_BASE)
        log = state / "worker.log"
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO), "STATE_DIR": str(state)}
        environment |= {
            "IMAGES_DIR": str(images),
            "UID_BASE": str(UID_BASE),
            "LANGUAGES": "bash",
            "WARM_POOL": "bash=1",
            "SANDBOX_SOURCE": "pool",
        }
        with open(log, "ab") as out:
            argv = [sys.executable, str(REPO / "tests/support/weakened.py"), layer]
            started.append(subprocess.Popen(argv, cwd=REPO, env=environment | settings, stdout=out, stderr=out))
        return started[-1], log

    yield start
    from sandbox.engines.confinement import instance_name

    for process in started:
        process.terminate()  # where it serves after all, it has sandboxes to take apart
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
    groups = [
        *Path("/sys/fs/cgroup").glob(f"*/{instance_name(state)}"),
        Path("/sys/fs/cgroup", instance_name(state)),
    ]
    for group in groups:
        if group.is_dir() and not group.is_symlink():
            assert [entry for entry in group.iterdir() if entry.is_dir()] == []
            group.rmdir()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_missing_layer_stops_the_service_and_is_named(service, start_weakened, layer):
    process, log = start_weakened(layer, service.images)
    assert process.wait(60) == 78, log.read_text()
    said = log.read_text()
    assert "does not start" in said
    name = layer.partition(".")[0]
    assert f"{name} is not in force" in said
    mend = said.partition(f"{name} is not in force")[2]
    assert "-> " in mend


@pytest.mark.parametrize("layer", WALLS)
def test_a_template_whose_children_lack_a_layer_is_used_no_more(service, start_weakened, state, layer):
    process, log = start_weakened(f"template:{layer}", service.images, SANDBOX_SOURCE="auto")
    dispatcher = UnixDispatcher(state / "run" / "worker.sock")
    until(lambda: "worker serves" in log.read_text() or process.poll() is not None, 60)
    result = dispatcher.run(Job(run_id=new_id("run"), language="bash", code="echo hi", key="test"))
    layers = dispatcher.status()["posture"]
    dispatcher.close()
    assert f"{layer.partition('.')[0]} is not in force" in log.read_text()
    assert result["stdout"] == "hi\n"
    assert result["isolation"]["source"] in ("pool", "cold")
    assert set(layers.values()) == {"ok"}


@pytest.mark.parametrize("source", ["auto", "template"])
def test_a_template_whose_children_cannot_finish_leaves_it_to_containers(service, start_weakened, state, source):
    process, log = start_weakened("template:mounts", service.images, SANDBOX_SOURCE=source, WARM_POOL="bash=2")
    dispatcher = UnixDispatcher(state / "run" / "worker.sock")
    until(lambda: "worker serves" in log.read_text() or process.poll() is not None, 60)
    results = [
        dispatcher.run(Job(run_id=new_id("run"), language="bash", code="echo hi", key="test")) for _ in range(4)
    ]
    dispatcher.close()
    assert [result["stdout"] for result in results] == ["hi\n"] * 4, log.read_text()
    assert {result["isolation"]["source"] for result in results} <= {"pool", "cold"}
    assert "a template is given up" in log.read_text()


@pytest.mark.parametrize("layer", WALLS)
def test_where_nothing_else_is_wanted_such_a_template_stops_the_service(service, start_weakened, layer):
    process, log = start_weakened(f"template:{layer}", service.images, SANDBOX_SOURCE="template")
    assert process.wait(60) == 78, log.read_text()
    assert f"{layer.partition('.')[0]} is not in force" in log.read_text()


@pytest.mark.parametrize("layer", ["no_new_privileges", "seccomp"])
def test_relaxing_takes_these_away_and_no_other(service, start_weakened, layer):
    """With DISABLE_SANDBOX_SECURITY=1 a layer that it does not name is as required as ever."""
    process, log = start_weakened("masked", service.images, DISABLE_SANDBOX_SECURITY="1")
    assert process.wait(60) == 78
    said = log.read_text()
    assert "masked is not in force" in said
    assert f"{layer} is not in force" not in said


def test_an_image_that_is_built_later_is_measured_too(service, start_weakened, state):
    images = state / "images"
    images.mkdir()
    process, log = start_weakened("masked", images)
    until(lambda: "worker serves" in log.read_text(), 60)  # there is nothing yet that could be measured
    shutil.copy(service.images / "bash.json", images / "bash.json")
    assert process.wait(60) == 78
    said = log.read_text()
    assert "the service stops" in said
    assert "masked is not in force" in said


def test_an_engine_with_a_runtime_that_nobody_reviewed_is_refused(service, state, monkeypatch):
    from sandbox.engines import EngineUnusable
    from sandbox.posture.golden import load_golden

    with pytest.raises(EngineUnusable, match=r"no posture file for docker with kata .*make posture"):
        load_golden("docker", "kata")

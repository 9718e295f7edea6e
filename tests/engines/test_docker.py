"""What only the engine `docker` can get wrong: the daemon between us and the sandbox, and what is left in it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from config.settings import Settings
from protocol.job import Job
from protocol.limits import Limits
from sandbox import frames
from sandbox.agent_client.job_frames import job_frames
from sandbox.agent_client.readiness import await_ready
from sandbox.engines.docker.daemon import Daemon
from sandbox.engines.docker.engine import LABEL_INSTANCE, LABEL_OWNER, DockerEngine, owner_name
from sandbox.engines.docker.images import LoadedImages
from sandbox.frames import frame
from sandbox.images import ImageStore
from sandbox.languages import Catalogue
from sandbox.run.plan import build_plan
from tests.engines.columns import chosen
from tests.support.dockerd import Dockerd
from tests.support.workers import Worker, until

COLUMN = "docker/runc"
pytestmark = [
    pytest.mark.skipif(COLUMN not in chosen(), reason=f"RUNYARD_TEST_COLUMNS leaves out {COLUMN}"),
    pytest.mark.timeout(300),
]
UID_BASE = 0x7A00_0000


@pytest.fixture
def state():
    path = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def engine(service, dockerd, state):
    """An engine in this process, with bash loaded."""
    settings = Settings(state_dir=state, engine="docker", uid_base=UID_BASE)
    daemon = Daemon(dockerd.host)
    made = DockerEngine(settings, Catalogue.load(only="bash"), daemon, slots=8)
    made.images = LoadedImages(ImageStore(service.images), daemon, state)
    until(lambda: made.images.get("bash"), 120)
    yield made
    made.cleanup_stale()
    assert dockerd.client.containers(all=True, filters={"label": f"{LABEL_INSTANCE}={made._instance}"}) == []
    made.close()
    for parent in Path("/sys/fs/cgroup").glob(f"*/{made._instance}"):
        parent.rmdir()


@pytest.fixture
def worker(service, dockerd, state):
    made = Worker(
        state, service.images, ENGINE="docker", DOCKER_HOST=dockerd.host, WARM_POOL="bash=2",
        LANGUAGES="bash", UID_BASE=str(UID_BASE),
    )  # fmt: skip
    made.wait_until_filled(180)
    yield made
    made.stop()
    made.end()


def containers(dockerd, instance):
    return dockerd.client.containers(all=True, filters={"label": f"{LABEL_INSTANCE}={instance}"})


def begin(sandbox, code):
    """Give a sandbox a program and start it, and read nothing of what it says."""
    plan = build_plan(
        Job(run_id="r", language="bash", code=code, limits={"max_output_bytes": 8 << 20}),
        Catalogue.load(only="bash"),
    )
    assert sandbox.apply(plan.limits)
    sandbox.stream.setblocking(True)
    data = b"".join(job_frames(plan, None)) + frame(frames.STDIN_END) + frame(frames.GO)
    while data:
        data = data[sandbox.stream.send(data) :]


def test_a_flood_that_nobody_reads_does_not_wedge_the_daemon(engine, dockerd):
    """An attach stream that is left full keeps a daemon from finishing with a container, or with any."""
    flooding, beside = (engine.create(engine.images.get("bash")) for _ in range(2))
    for sandbox in (flooding, beside):
        await_ready(sandbox)
    begin(flooding, "while :; do echo 01234567890123456789012345678901234567890123456789; done")
    time.sleep(1)

    began = time.monotonic()
    assert dockerd.client.inspect_container(beside.container)["State"]["Running"]
    flooding.kill()
    flooding.destroy()
    assert time.monotonic() - began < 5
    began = time.monotonic()
    beside.destroy()
    assert time.monotonic() - began < 5
    assert containers(dockerd, engine._instance) == []


def test_what_is_counted_outlives_the_container(engine):
    sandbox = engine.create(engine.images.get("bash"))
    await_ready(sandbox)
    assert sandbox.apply(Limits.resolve({}, pids_default=64))
    os.kill(sandbox.pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{sandbox.pid}"))
    time.sleep(0.5)  # by now its control group is gone
    assert sandbox.stats().oom_kills == 0
    sandbox.destroy()


def test_each_live_sandbox_has_a_uid_of_its_own(engine):
    image = engine.images.get("bash")
    live = [engine.create(image) for _ in range(3)]
    told = {
        next(
            line for line in Path(f"/proc/{sandbox.pid}/status").read_text().splitlines() if line.startswith("Uid")
        )
        for sandbox in live
    }
    for sandbox in live:
        sandbox.destroy()
    assert len(told) == 3


def test_only_what_a_dead_owner_of_this_service_left_is_reaped(engine, dockerd):
    reference = engine.images.get("bash").reference
    here, elsewhere = engine._instance, "runyard-00000000"
    dead = owner_name(os.getpid()).rpartition(".")[0] + ".1"
    made = {}
    for name, instance, owner in (
        ("orphan", here, dead),
        ("sibling's", here, owner_name(os.getpid())),
        ("another service's", elsewhere, dead),
    ):
        labels = {LABEL_INSTANCE: instance, LABEL_OWNER: owner}
        made[name] = dockerd.client.create_container(reference, ["true"], labels=labels)["Id"]
    unlabelled = dockerd.client.create_container(reference, ["true"])["Id"]

    assert engine.cleanup_stale() == 1

    left = {found["Id"] for found in dockerd.client.containers(all=True)}
    assert made["orphan"] not in left
    assert {made["sibling's"], made["another service's"], unlabelled} <= left
    for identity in (made["sibling's"], made["another service's"], unlabelled):
        dockerd.client.remove_container(identity)


def test_a_killed_workers_containers_go_by_themselves(worker, dockerd):
    assert len(containers(dockerd, worker.group_name)) == 2
    worker.stop(signal.SIGKILL)
    until(lambda: containers(dockerd, worker.group_name) == [], 15)
    assert worker.sandbox_processes() == []


def test_a_stopped_worker_leaves_no_container(worker, dockerd):
    assert worker.run("bash", "echo hi")["stdout"] == "hi\n"
    assert worker.stop() == 0
    assert containers(dockerd, worker.group_name) == []
    assert worker.groups() == []


def test_a_run_over_its_time_leaves_no_container_at_work(worker, dockerd):
    result = worker.run("bash", "while :; do :; done & while :; do :; done", limits={"timeout_ms": 300})
    assert result["status"] == "timeout"
    # Two that are warm, and perhaps one on its way out or in: none of them burns processor time.
    until(lambda: len(containers(dockerd, worker.group_name)) == 2, 15)


def test_an_image_that_was_removed_is_loaded_again(worker, dockerd):
    digest = worker.run("bash", "true")["isolation"]["image"].removeprefix("sha256:")[:12]
    reference = f"runyard/bash:{digest}"
    dockerd.client.remove_image(reference, force=True)

    def answers():
        result = worker.run("bash", "echo again")
        return isinstance(result, dict) and result.get("stdout") == "again\n"

    def is_back():
        answers()  # uses up what is warm, so that new ones are needed
        return dockerd.client.images(reference) != []

    until(is_back, 60)
    until(answers, 60)


def test_a_daemon_that_goes_away_is_a_clear_fault_and_its_return_is_noticed(worker, dockerd):
    assert worker.run("bash", "echo hi")["stdout"] == "hi\n"
    dockerd.stop()
    try:
        until(lambda: worker.sandbox_processes() == [], 20)
        began = time.monotonic()
        result = worker.run("bash", "echo hi")
        assert time.monotonic() - began < 10
        assert (result["status"], result["error"]["code"]) == ("error", "engine_error")
        assert "docker" not in result["error"]["message"]
    finally:
        dockerd.start()
    until(lambda: worker.run("bash", "echo back").get("stdout") == "back\n", 30)


def start_and_fail(state, service, **settings):
    worker = Worker(state, service.images, **settings)
    try:
        code = worker.process.wait(30)
    finally:
        worker.end()
    return code, worker.log.read_text()


@pytest.fixture
def bare_dockerd(state):
    """A daemon that knows no runtime but its own."""
    daemon = Dockerd(state / "dockerd", runtimes=())
    yield daemon
    daemon.remove()


def test_what_is_missing_at_the_start_is_named(state, service, bare_dockerd):
    nowhere = f"unix:///nonexistent/{secrets.token_hex(4)}.sock"
    code, said = start_and_fail(state, service, ENGINE="docker", DOCKER_HOST=nowhere)
    assert code == 78
    assert "apt-get install docker.io" in said
    assert nowhere in said
    code, said = start_and_fail(state, service, ENGINE="docker", DOCKER_HOST=bare_dockerd.host, RUNTIME="crun")
    assert code == 78
    assert "RUNTIME=crun: the Docker daemon has no such runtime" in said
    assert "apt-get install crun" in said


def test_a_daemon_that_knows_crun_runs_by_it_as_confined_as_by_runc(state, service, dockerd):
    worker = Worker(
        state, service.images, ENGINE="docker", RUNTIME="crun", DOCKER_HOST=dockerd.host,
        WARM_POOL="bash=1", LANGUAGES="bash", UID_BASE=str(UID_BASE),
    )  # fmt: skip
    try:
        worker.wait_until_filled(180)
        result = worker.run("bash", "echo hi")
        assert (result["stdout"], result["isolation"]["runtime"]) == ("hi\n", "crun")
        assert set(worker.dispatcher.status()["posture"].values()) == {"ok"}
    finally:
        worker.end()

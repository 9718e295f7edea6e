"""A runtime that fails, as crun 1.21 did without CAP_SYS_NICE: nobody is told that the service is up.

The service runs in a mount namespace where a script stands in crun's place: it fails while a file is there, and
is crun itself while it is not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time

import pytest

from ops.contained import has_sandboxes
from ops.state import StatePlace
from ops.worker_socket import canary, failing
from tests.support.service import REPO, Service
from tests.support.slow_machine import TIME_FACTOR
from tests.support.workers import Worker, until

WORDS = "failed to reset affinity: Operation not permitted"
REMEDY = "CAP_SYS_NICE"
QUIET_LOOK_S = 6
#: How long `make up` may take to say that it does not work: to start, and to try twice.
UP_FAILS_WITHIN_S = 30
#: While it was broken for a few seconds only, the next attempt is no further away.
BACK_WITHIN_S = 16


@pytest.fixture
def flag(state):
    """A file: while it is there, crun fails."""
    return state / "broken"


@pytest.fixture
def inside(state, flag):
    """The line of shell that puts the script in crun's place."""
    script, real = state / "crun", state / "real-crun"
    shutil.copy(shutil.which("crun"), real)
    script.write_text(f'#!/bin/sh\n[ ! -e {flag} ] || {{ echo "{WORDS}" >&2; exit 1; }}\nexec {real} "$@"\n')
    script.chmod(0o755)
    return f"mount --bind {script} {shutil.which('crun')}"


@pytest.fixture
def start(service, state, inside):
    """Start a worker with that crun."""
    started = []

    def start(**settings):
        settings = {"UID_BASE": str(0x7800_0000), "LANGUAGES": "bash"} | settings
        started.append(Worker(state, service.images, inside=inside, **settings))
        return started[0]

    yield start
    assert started[0].stop() == 0
    started[0].end()


def answers(worker):
    return worker.dispatcher.status()["sandboxes"]


@pytest.mark.timeout(180)
def test_a_worker_without_sandboxes_says_so_backs_off_and_recovers(start, state, flag):
    flag.touch()
    worker, place = start(LANGUAGES="python,bash", WARM_POOL="python=2,bash=2"), StatePlace(state)
    until((state / "run/worker.sock").exists, 20)
    until(lambda: answers(worker) == {"usable": False, "failing": ["bash", "python"]}, 20)
    assert not has_sandboxes(worker.dispatcher.status())
    assert set(worker.dispatcher.status()["posture"].values()) == {"fail"}
    told = failing(place)
    assert WORDS in told["python"]["words"]
    assert REMEDY in told["python"]["remedy"]
    words, remedy = canary(place, "python")
    assert WORDS in words
    assert REMEDY in remedy
    # The log: eight errors a second before; each kind of line once a minute for each language now.
    before = worker.log.read_text().count("\n")
    time.sleep(QUIET_LOOK_S)
    assert worker.log.read_text().count("\n") - before <= 4
    warm = [json.loads(line) for line in worker.log.read_text().splitlines() if "warm sandbox" in line]
    assert sorted(line["language"] for line in warm) == ["bash", "python"]

    flag.unlink()
    until(lambda: answers(worker) == {"usable": True, "failing": []}, 60)
    until(lambda: set(worker.dispatcher.status()["posture"].values()) == {"ok"}, 60)
    assert canary(place, "python") == ("", "")


@pytest.mark.timeout(120)
def test_a_pool_that_cannot_be_filled_again_is_told_though_some_wait_in_it(start, state, flag):
    worker = start(WARM_POOL="bash=2", SANDBOX_SOURCE="pool")
    worker.wait_until_filled()
    assert has_sandboxes(worker.dispatcher.status())
    flag.touch()
    assert worker.run("bash", "echo 1")["status"] == "succeeded"  # in one that was made before
    until(lambda: answers(worker) == {"usable": False, "failing": ["bash"]}, 10)
    assert WORDS in failing(StatePlace(state))["bash"]["words"]
    flag.unlink()
    until(lambda: answers(worker) == {"usable": True, "failing": []}, BACK_WITHIN_S)


@pytest.mark.timeout(120)
def test_a_container_that_cannot_be_made_takes_nothing_from_runs_that_are_forked(start, state, flag):
    worker = start(WARM_POOL="bash=2", SANDBOX_SOURCE="template")
    worker.wait_until_filled()
    flag.touch()
    assert worker.run("bash", "echo 1", isolation="container")["error"]["code"] == "engine_error"
    assert answers(worker) == {"usable": True, "failing": ["bash/container"]}
    assert has_sandboxes(worker.dispatcher.status())
    assert WORDS in failing(StatePlace(state))["bash/container"]["words"]
    assert worker.run("bash", "echo 1")["isolation"]["source"] == "template"
    flag.unlink()
    until(lambda: answers(worker) == {"usable": True, "failing": []}, BACK_WITHIN_S)
    assert worker.run("bash", "echo 1", isolation="container")["status"] == "succeeded"


@pytest.fixture
def made(service, state, inside):
    """A whole service's place: `made("up")` has `make` do it with that crun, on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The code is the same; installing it anew takes longer than all the rest.
    (state / "venv").symlink_to(service.state / "venv")
    kept = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "VIRTUAL_ENV"}
    }
    own = {"STATE_DIR": str(state), "PORT": str(port), "UID_BASE": str(0x7900_0000), "LANGUAGES": "bash"}
    environment = kept | own | {"IMAGES_DIR": str(service.images)}

    def make(target, **settings):
        argv = ["unshare", "--mount", "sh", "-c", f"{inside} && exec make --no-print-directory {target}"]
        done = subprocess.run(
            argv, cwd=REPO, env=environment | settings, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    make.service = Service("127.0.0.1", port, state)
    yield make
    status, said = make("down")
    assert status == 0, said


def ready(service):
    """The status of /readyz, and the states of what it and /v1/health say of sandboxes."""
    reply, health = service.get("/readyz", token=None), service.get("/v1/health", token=None)
    assert "affinity" not in str(reply.body) + str(health.body)
    checks = reply.body["checks"] | health.body["checks"]
    return reply.status, {name: state for name, state in checks.items() if name.startswith("sandboxes")}


NOT_READY = 503, {"sandboxes": "fail", "sandboxes.bash": "fail"}
READY = 200, {"sandboxes": "ok"}


def check_that_operators_are_told(make):
    for target in ("doctor", "status"):
        status, shown = make(target)
        assert status != 0
        assert WORDS in shown
        assert REMEDY in shown


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pool", ["bash=0", "bash=2"])
def test_make_up_fails_with_the_engines_words_and_a_remedy(made, flag, pool):
    flag.touch()
    began = time.monotonic()
    status, said = made("up", WARM_POOL=pool)
    assert status != 0, said
    assert time.monotonic() - began < UP_FAILS_WITHIN_S * TIME_FACTOR
    assert "Runyard is up" not in said
    assert re.search(f"cannot run a program in bash: tried [0-9]+ times: crun ended with 1: {WORDS}", said), said
    assert REMEDY in said
    check_that_operators_are_told(made)
    until(lambda: ready(made.service) == NOT_READY, 5)
    flag.unlink()
    until(lambda: ready(made.service) == READY, BACK_WITHIN_S)


@pytest.mark.timeout(300)
def test_a_service_without_a_pool_stops_being_ready_and_is_again_without_another_run(made, flag):
    status, said = made("up", WARM_POOL="bash=0", SANDBOX_SOURCE="pool")
    assert status == 0, said
    assert ready(made.service) == READY
    flag.touch()
    refused = made.service.post("/v1/runs", json={"language": "bash", "code": "echo 1"})
    assert (refused.status, refused.body["error"]["code"]) == (500, "engine_error")
    until(lambda: ready(made.service) == NOT_READY, 5)
    check_that_operators_are_told(made)
    flag.unlink()
    until(lambda: ready(made.service) == READY, BACK_WITHIN_S)
    assert made.service.run("bash", "echo 1")["status"] == "succeeded"

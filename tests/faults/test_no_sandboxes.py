"""A runtime that fails, as crun 1.21 did without CAP_SYS_NICE: nobody is told that the service is up.

The worker is started in a mount namespace where a script stands in crun's place: it fails while a file is there, and
is crun itself while it is not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time

import pytest
from workers import Worker, until

from ops.state import Place
from ops.worker_socket import canary, failing
from tests.conftest import REPO

WORDS = "failed to reset affinity: Operation not permitted"
QUIET_LOOK_S = 6


@pytest.fixture
def broken(state):
    """A file: while it is there, crun fails. And the line of shell that puts the script in its place."""
    flag, script, real = state / "broken", state / "crun", state / "real-crun"
    shutil.copy(shutil.which("crun"), real)
    script.write_text(f'#!/bin/sh\n[ ! -e {flag} ] || {{ echo "{WORDS}" >&2; exit 1; }}\nexec {real} "$@"\n')
    script.chmod(0o755)
    flag.touch()
    return flag, f"mount --bind {script} {shutil.which('crun')}"


@pytest.fixture
def worker(service, state, broken):
    settings = {"UID_BASE": str(0x7800_0000), "WARM_POOL": "python=2,bash=2", "LANGUAGES": "python,bash"}
    made = Worker(state, service.state / "images", inside=broken[1], **settings)
    yield made
    assert made.stop() == 0
    made.end()


def answers(worker):
    return worker.dispatcher.status()["sandboxes"]


@pytest.mark.timeout(180)
def test_a_worker_without_sandboxes_says_so_backs_off_and_recovers(worker, state, broken):
    flag, place = broken[0], Place(state)
    until((state / "run/worker.sock").exists, 20)
    until(lambda: answers(worker) == {"usable": False, "failing": ["bash", "python"]}, 20)
    assert set(worker.dispatcher.status()["posture"].values()) == {"fail"}
    told = failing(place)
    assert WORDS in told["python"]["words"]
    assert "CAP_SYS_NICE" in told["python"]["remedy"]
    words, remedy = canary(place, "python")
    assert WORDS in words
    assert "CAP_SYS_NICE" in remedy
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


@pytest.mark.timeout(300)
def test_make_up_fails_with_the_engines_words_and_a_remedy(service, state, broken):
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "VIRTUAL_ENV"}
    } | {
        "STATE_DIR": f"{service.state}-make",  # other tests have installed the service there
        "IMAGES_DIR": str(service.state / "images"),
        "PORT": "18099",
        "LANGUAGES": "bash",
    }

    def make(target, inside="true"):
        argv = ["unshare", "--mount", "sh", "-c", f"{inside} && exec make --no-print-directory {target}"]
        return subprocess.run(argv, cwd=REPO, env=environment, capture_output=True, text=True, check=False)

    try:
        up = make("up", broken[1])
        said = up.stdout + up.stderr
        assert up.returncode != 0, said
        assert "Runyard is up" not in said
        assert re.search(f"cannot run a program in bash: tried [0-9]+ times: crun ended with 1: {WORDS}", said), (
            said
        )
        assert "CAP_SYS_NICE" in said
        for target in ("doctor", "status"):
            shown = make(target)
            assert shown.returncode != 0
            assert WORDS in shown.stdout
            assert "CAP_SYS_NICE" in shown.stdout
        asked = ["curl", "-s", "-w", "%{http_code}", "http://127.0.0.1:18099/readyz"]
        ready = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert ready.endswith("503")
        assert '"sandboxes":"fail"' in ready
        assert "affinity" not in ready
    finally:
        down = make("down")
    assert down.returncode == 0, down.stdout + down.stderr

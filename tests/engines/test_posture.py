"""Every engine and runtime is measured against its own file; a daemon that leaves a layer out is noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sandbox.posture.golden import load_golden
from storage.layout import make_areas
from tests.engines.columns import chosen
from tests.support.weakened import DOCKER

REPO = Path(__file__).resolve().parents[2]
UID_BASE = 0x7A00_0000


def test_every_layer_of_its_file_was_measured_and_found(dispatcher, column):
    found = dispatcher.status()["posture"]
    wanted = set(load_golden(column.engine, column.runtime)) - {"apparmor", "build_directory"}
    assert set(found) >= wanted
    assert set(found.values()) == {"ok"}


@pytest.fixture
def state():
    path = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif("docker/runc" not in chosen(), reason="RUNYARD_TEST_COLUMNS has no docker/runc")
@pytest.mark.parametrize("layer", DOCKER)
@pytest.mark.timeout(400)  # the first of them waits until the image is loaded
def test_a_layer_that_a_daemon_leaves_out_stops_the_service(service, dockerd, state, layer):
    make_areas(state / "storage", UID_BASE)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO), "STATE_DIR": str(state)}
    environment |= {"IMAGES_DIR": str(service.images), "UID_BASE": str(UID_BASE), "LANGUAGES": "bash"}
    environment |= {"ENGINE": "docker", "RUNTIME": "runc", "DOCKER_HOST": dockerd.host, "WARM_POOL": "bash=1"}
    argv = [sys.executable, str(REPO / "tests/support/weakened.py"), layer]
    done = subprocess.run(argv, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 78, done.stderr
    assert f"docker/runc, image bash: {layer}" in done.stderr or f"; {layer} is not in force" in done.stderr

"""The units of systemd: they are well-formed, and they give each program no more than the code says it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import Settings
from worker.privileges import KEPT

UNITS = sorted((Path(__file__).resolve().parents[2] / "deploy" / "systemd").glob("*.service"))
PYTHON = "/var/lib/runyard/venv/bin/python"


def unit(name):
    """The [Service] section; of a key that stands twice, all values."""
    found = {}
    text = next(path for path in UNITS if path.stem == name).read_text()
    for line in text.partition("[Service]")[2].partition("[Install]")[0].splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return {key: " ".join(values) for key, values in found.items()}


def test_systemd_finds_nothing_wrong(tmp_path):
    """With an interpreter that is there in place of the service's, which need not be installed."""
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze is missing: make test-setup installs it")
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text().replace(PYTHON, sys.executable))
    argv = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    environment = {"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment)
    about_ours = [line for line in done.stderr.splitlines() if "runyard" in line]
    assert (done.returncode, about_ours) == (0, [])


def test_systemd_would_find_a_mistake(tmp_path):
    text = next(path for path in UNITS if path.stem == "runyard-api").read_text().replace(PYTHON, sys.executable)
    (tmp_path / "broken.service").write_text(text.replace("ProtectSystem=strict", "ProtectSystem=very"))
    argv = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "broken.service")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "Failed to parse protect system value" in done.stderr


def test_api_has_no_rights_no_groups_and_no_engine():
    api = unit("runyard-api")
    uid = str(Settings.model_fields["uid_base"].default)
    assert (api["User"], api["Group"], api["SupplementaryGroups"]) == (uid, uid, "")
    assert (api["CapabilityBoundingSet"], api["AmbientCapabilities"]) == ("", "")
    assert (api["NoNewPrivileges"], api["ProtectSystem"]) == ("yes", "strict")
    assert "/run/docker.sock" in api["InaccessiblePaths"]
    assert "worker" not in api["ReadWritePaths"]
    assert set(api["ReadWritePaths"].split()) == {
        f"/var/lib/runyard/{name}" for name in ("api", "db", "storage/uploads")
    }


def test_worker_has_the_capabilities_that_it_keeps():
    worker = unit("runyard-worker")
    assert set(worker["CapabilityBoundingSet"].split()) == set(KEPT) | {"CAP_MAC_ADMIN", "CAP_SETPCAP"}
    assert (worker["NoNewPrivileges"], worker["ProtectSystem"]) == ("yes", "strict")
    assert worker["AmbientCapabilities"] == ""
    inherited = {"SystemCallFilter", "RestrictAddressFamilies", "RestrictNamespaces", "SystemCallArchitectures"}
    assert not inherited & set(worker)


def test_a_missing_layer_is_not_tried_again():
    for name in ("runyard-worker", "runyard-api"):
        assert unit(name)["RestartPreventExitStatus"] == "78"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_each_starts_what_there_is(path):
    from ops import unit as module

    word = unit(path.stem)["ExecStart"].split()
    assert word[:5] == [PYTHON, "-P", "-s", "-m", "ops.unit"]
    assert word[5] in (module.__doc__ or "")

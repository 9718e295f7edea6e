"""The units of systemd: they are well-formed, and they give each program no more than the code says it needs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import Settings
from sandbox.engines.confinement import PROFILES
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
    assert (api["User"], api["Group"], api["SupplementaryGroups"]) == ("runyard-api", "runyard-api", "")
    assert (api["CapabilityBoundingSet"], api["AmbientCapabilities"]) == ("", "")
    assert (api["NoNewPrivileges"], api["ProtectSystem"]) == ("yes", "strict")
    assert "/run/docker.sock" in api["InaccessiblePaths"]
    assert "worker" not in api["ReadWritePaths"]
    assert set(api["ReadWritePaths"].split()) == {
        f"/var/lib/runyard/{name}" for name in ("api", "db", "storage/uploads")
    }


def test_egress_has_an_account_of_its_own_no_rights_and_only_its_socket():
    egress = unit("runyard-egress")
    assert (egress["User"], egress["Group"], egress["SupplementaryGroups"]) == ("runyard-egress",) * 2 + ("",)
    assert (egress["CapabilityBoundingSet"], egress["AmbientCapabilities"]) == ("", "")
    assert (egress["NoNewPrivileges"], egress["ProtectSystem"]) == ("yes", "strict")
    assert egress["ReadWritePaths"] == "/var/lib/runyard/run/egress"
    assert "/var/lib/runyard/db" in egress["InaccessiblePaths"]


def test_worker_has_the_capabilities_that_it_keeps():
    worker = unit("runyard-worker")
    assert set(worker["CapabilityBoundingSet"].split()) == set(KEPT) | {"CAP_SETPCAP"}
    assert worker["ProtectSystem"] == "strict"
    assert worker["AmbientCapabilities"] == ""


def test_the_filter_of_the_worker_takes_nothing_that_a_sandbox_may_call():
    """It is inherited: what it refuses no profile can give back."""
    groups = unit("runyard-worker")["SystemCallFilter"].removeprefix("~").split()
    refused = set()
    for group in groups:
        argv = ["systemd-analyze", "syscall-filter", group]
        listed = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
        refused |= {line.strip() for line in listed.splitlines()[1:] if line.strip() and "#" not in line}
    profile = json.loads((PROFILES / "default.json").read_text())
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert refused
    assert not refused & allowed


def exposure(name):
    path = next(path for path in UNITS if path.stem == name)
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)[1])


def test_the_units_leave_little_exposed():
    assert exposure("runyard-worker") <= 5.0
    assert exposure("runyard-api") <= 1.5
    assert exposure("runyard-egress") <= 1.5


def test_each_protection_that_the_worker_goes_without_has_its_reason():
    """All that systemd-analyze counts against a unit is named in it, but for capabilities, which are a table's."""
    path = next(path for path in UNITS if path.stem == "runyard-worker")
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout
    counted = {line.split()[1].partition("=")[0] for line in said.splitlines() if line.startswith("✗")}
    text = path.read_text()
    unnamed = {name for name in counted if name not in text}
    assert counted > {"RestrictNamespaces", "ProtectProc"}
    assert unnamed == set()


def test_the_account_of_the_api_is_the_one_of_the_settings():
    line = (UNITS[0].parent / "runyard.sysusers.conf").read_text().splitlines()[-1].split()
    uid = Settings.model_fields["uid_base"].default
    assert line[:3] == ["u", "runyard-api", f"{uid}:{uid}"]
    accounts = (UNITS[0].parent / "runyard.sysusers.conf").read_text()
    assert f"\nu runyard-egress {uid + 1}:{uid + 1} " in accounts


def test_a_missing_layer_is_not_tried_again():
    for name in ("runyard-worker", "runyard-api", "runyard-egress"):
        assert unit(name)["RestartPreventExitStatus"] == "78"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_each_starts_what_there_is(path):
    from ops import unit as module

    word = unit(path.stem)["ExecStart"].split()
    assert word[:5] == [PYTHON, "-P", "-s", "-m", "ops.unit"]
    assert word[5] in (module.__doc__ or "")


def test_systemd_makes_the_account_and_the_directory(tmp_path):
    """By its own programs, in an empty root: they take less than one would think."""
    (tmp_path / "etc").mkdir()
    for program, name in (
        ("systemd-sysusers", "runyard.sysusers.conf"),
        ("systemd-tmpfiles", "runyard.tmpfiles.conf"),
    ):
        create = ["--create"] if program == "systemd-tmpfiles" else []
        argv = [program, f"--root={tmp_path}", *create, str(UNITS[0].parent / name)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "ailed" not in done.stderr
    assert "runyard-api:x:1879048192:1879048192:" in (tmp_path / "etc/passwd").read_text()
    assert "runyard-egress:x:1879048193:1879048193:" in (tmp_path / "etc/passwd").read_text()
    assert (tmp_path / "var/lib/runyard").is_dir()

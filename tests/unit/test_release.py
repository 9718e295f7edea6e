"""Licence, notices and version: each manifest names them, and there is one version."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from runyard import __version__

from api.openapi.texts import ABOUT
from config.version import VERSION

REPO = Path(__file__).resolve().parents[2]
NOTICES = (REPO / "THIRD_PARTY_NOTICES.md").read_text()
README = (REPO / "README.md").read_text()
PERFORMANCE = (REPO / "docs/performance.md").read_text()


def tracked(*names):
    listed = subprocess.run(["git", "ls-files", "-z", *names], cwd=REPO, capture_output=True, check=True).stdout
    found = [REPO / name.decode() for name in listed.split(b"\0") if name]
    assert found
    return found


def test_every_manifest_names_the_licence():
    for path in tracked("*package.json", "*package-lock.json"):
        about = json.loads(path.read_text())
        assert about.get("packages", {"": about})[""]["license"] == "MIT", path
    for path in tracked("*pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        assert project["license"] == "MIT", path
        assert all((path.parent / name).is_file() for name in project["license-files"]), path
    assert ABOUT["license"] == {"name": "MIT", "identifier": "MIT"}
    for path in tracked("openwebui_tool*.py"):
        assert "\nlicense: MIT\n" in path.read_text(), path
    assert 'LABEL org.opencontainers.image.licenses="MIT"' in (REPO / "deploy/docker/Dockerfile").read_text()


def test_the_clients_licence_is_that_of_the_service():
    assert (REPO / "LICENSE").read_text().startswith("MIT License")
    assert (REPO / "clients/python/LICENSE").read_text() == (REPO / "LICENSE").read_text()


def test_the_notices_name_every_bundled_package():
    texts = (REPO / "web/admin/static/licences.txt").read_text()
    bundled = re.findall(r"^---- (\S+) (\S+) \((.+)\)$", texts, re.MULTILINE)
    assert len(bundled) > 20
    named = re.findall(r"^\| (\S+) \| (\S+) \| (\S+) \|$", NOTICES.split("## Installed")[0], re.MULTILINE)
    assert named[1:] == bundled
    assert f"| Swagger UI, copyright SmartBear Software | {version('flask-swagger-ui')} | Apache-2.0 |" in NOTICES
    assert f"| flask-swagger-ui, which contains it | {version('flask-swagger-ui')} | MIT |" in NOTICES


def test_the_lock_file_of_the_page_agrees_with_its_notices():
    packages = json.loads((REPO / "web/package-lock.json").read_text())["packages"]
    for name, number, licence in re.findall(r"^\| (\S+/?\S*) \| (\d\S*) \| (\S+) \|$", NOTICES, re.MULTILINE):
        if f"node_modules/{name}" in packages:
            found = packages[f"node_modules/{name}"]
            assert (found["version"], found["license"]) == (number, licence), name


def test_there_is_one_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert __version__ == VERSION
    for path in tracked("*pyproject.toml"):
        about = tomllib.loads(path.read_text())
        assert "version" not in about["project"], path
        source = path.parent / about["tool"]["hatch"]["version"]["path"]
        assert f'= "{VERSION}"' in source.read_text(), path
    assert re.search(rf"^## {re.escape(VERSION)}\b", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "module",
    [
        "ops.up",
        "ops.down",
        "ops.status",
        "ops.doctor",
        "ops.keys",
        "ops.systemd",
        "ops.upkeep",
        "ops.version",
        "worker",
    ],
)
def test_what_the_operator_runs_shows_the_version(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"runyard {VERSION}\n", "")


def test_the_figures_of_the_first_screen_are_measured_ones():
    """The bench writes the tables; these sentences are for a reader who has not read how."""
    first, bare = re.search(
        r"takes ([\d.]+) ms over HTTP; starting\s+`python3` directly takes ([\d.]+) ms", README
    ).groups()
    row = re.compile(r"^\| {} \|[^|]+\| ([\d.]+) / [\d.]+ \(([\d.]+)×\)".replace("{}", "(?:python)"), re.MULTILINE)
    ours, ratio = row.search(PERFORMANCE).groups()
    start = re.search(r"^\| bare \|[^|]+\| ([\d.]+) /", PERFORMANCE, re.MULTILINE)[1]
    assert (first, bare) == (f"{float(ours):.1f}", f"{float(start):.1f}")
    measured = re.search(
        r"^\| a Python program, in starts of `python3` \| ([\d.]+) \| ([\d.]+) \|", README, re.MULTILINE
    )
    assert measured.groups() == (f"{float(ratio):.1f}", re.search(r"Piston ([\d.]+)\.", PERFORMANCE)[1])

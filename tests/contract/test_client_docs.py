"""docs/clients.md runs as it stands, and names what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from runyard.cli import cli

REPO = Path(__file__).resolve().parents[2]
TEXT = (REPO / "docs/clients.md").read_text()


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.fixture
def environment(service, tmp_path):
    """A shell whose `runyard` is this checkout's."""
    command = tmp_path / "bin/runyard"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m runyard "$@"\n')
    command.chmod(0o755)
    return {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(REPO / "clients/python/src"),
        "RUNYARD_URL": service.url,
        "RUNYARD_API_KEY": service.token,
    }


@pytest.mark.parametrize("block", [block for block in blocks("sh") if "pip install" not in block])
def test_what_is_typed_does_what_it_says(environment, tmp_path, block):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if "exec" in block:
        assert done.stdout.startswith("2\nAlice\nfrom a folder\nfrom stdin\nprint(input())\n{")
        assert (tmp_path / "results/x").read_text() == "x\n"


@pytest.mark.parametrize("block", blocks("python"))
def test_what_is_programmed_does_what_it_says(environment, block):
    done = subprocess.run(
        [sys.executable, "-c", block], env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_that_is_named_is_there():
    commands = dict(re.findall(r"`runyard (runs|files|keys) ([a-z| ]+)`", TEXT))
    assert set(commands) == {"runs", "files", "keys"}
    for group, names in commands.items():
        for name in names.split(" | "):
            assert CliRunner().invoke(cli, [group, name, "--help"]).exit_code == 0, (group, name)


def test_the_open_webui_guide_names_the_tools_valves():
    guide, tool = ((REPO / name).read_text() for name in ("docs/open-webui.md", "openwebui_tool.py"))
    named = set(re.findall(r"`((?:api|public|max|show)_[a-z_]+)`", guide))
    assert named
    assert named <= set(re.findall(r"^        (\w+): (?:str|int|bool) = Field", tool, re.MULTILINE))
    assert set(re.findall(r"`(run_\w+|execute_code)`", guide)) == set(
        re.findall(r"async def (run_\w+|execute_code)\(", tool)
    )

"""The commands and programs in docs/clients.md, and the programs in docs/sessions.md, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TEXT = "".join((REPO / "docs" / name).read_text() for name in ("clients.md", "sessions.md"))


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
    if "sessions exec --results" in block:
        assert done.stdout.startswith("42\n")
    elif "sessions exec" in block:
        assert done.stdout.startswith("kept\n")
        assert (tmp_path / "copy.txt").read_text() == "kept\n"
    elif "exec" in block:
        assert done.stdout.startswith("2\nAlice\nfrom a folder\nfrom stdin\nprint(input())\n{")
        assert (tmp_path / "results/x").read_text() == "x\n"


@pytest.mark.parametrize("block", blocks("python"))
def test_what_is_programmed_does_what_it_says(environment, block):
    done = subprocess.run(
        [sys.executable, "-c", block], env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr

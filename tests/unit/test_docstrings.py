"""Docstrings begin with a verb (ruff's D401), but for the files of a list that only shrinks."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
#: As many files are on the list; lower this with each that is taken off.
MOST = 50


def listed():
    """The files whose docstrings may begin otherwise."""
    with (REPO / "pyproject.toml").open("rb") as file:
        lint = tomllib.load(file)["tool"]["ruff"]["lint"]
    return sorted(lint["extend-per-file-ignores"])


def test_the_list_of_files_only_shrinks():
    assert len(listed()) <= MOST


def test_a_file_that_is_clean_leaves_the_list():
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "D401",
        "--output-format",
        "concise",
    ]
    run = subprocess.run([*command, *listed()], cwd=REPO, capture_output=True, text=True, check=False)
    unclean = {line.split(":")[0] for line in run.stdout.splitlines() if " D401 " in line}
    assert sorted(set(listed()) - unclean) == []

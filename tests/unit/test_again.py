"""Real tests that are run again are few, and named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FAILS_AT_FIRST = """
import pytest
seen = set()
@pytest.mark.parametrize("n", range({count}))
def test_a(n):
    first = n not in seen
    seen.add(n)
    assert not first
"""
FAILS = "def test_a():\n    assert False\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        (FAILS_AT_FIRST.format(count=3), 0, "3 passed, 3 rerun"),
        (FAILS_AT_FIRST.format(count=4), 1, "4 tests were run again, and no more than 3 may be"),
        (FAILS, 1, "1 failed, 1 rerun"),
    ],
)
def test_a_few_may_be_run_again(tmp_path, code, exit_code, says):
    (tmp_path / "test_it.py").write_text(code)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "again", "--reruns", "1", "-p", "no:cacheprovider", "."]
    env = {**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, says in done.stdout) == (exit_code, True), done.stdout
    assert "assert not first" in done.stdout or code == FAILS

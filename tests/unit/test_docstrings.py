"""The docstrings of the whole code begin with a verb: ruff's D401 has no exceptions."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
#: D rules need not hold here: tests, measuring programs, and the texts that Open WebUI gives to a model.
NO_DOCSTRINGS = {"tests/**", "bench/**", "openwebui_tool*.py"}


def lint_settings():
    with (REPO / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["tool"]["ruff"]["lint"]


def is_begun_with_a_verb(code):
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--quiet",
        "--select",
        "D401",
        "--stdin-filename",
        "api/new.py",
        "-",
    ]
    run = subprocess.run(command, input=code, cwd=REPO, capture_output=True, text=True, check=False)
    return run.returncode == 0


def test_no_file_is_excepted():
    lint = lint_settings()
    ignores = {**lint["per-file-ignores"], **lint.get("extend-per-file-ignores", {})}
    excepted = {files for files, rules in ignores.items() if {"D", "D4", "D40", "D401"} & set(rules)}
    assert excepted == NO_DOCSTRINGS
    assert not {"D", "D4", "D40", "D401"} & set(lint["ignore"])


@pytest.mark.parametrize(
    ("sentence", "good"), [("Return the keys.", True), ("The keys in force.", False), ("Returns the keys.", False)]
)
def test_the_linter_checks_the_first_word(sentence, good):
    code = f'"""Keys."""\n\n\ndef keys() -> None:\n    """{sentence}"""\n'
    assert is_begun_with_a_verb(code) is good

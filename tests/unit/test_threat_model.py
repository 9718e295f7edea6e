"""The page that says which test holds which promise names tests that exist."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
TABLE = PAGE.partition("## Promises")[2].partition("\n## ")[0]
PROMISES = [row.split("|")[1:3] for row in TABLE.splitlines() if row.startswith("|") and "`" in row]
MEASURED = PAGE.partition("## Limits of the whole machine")[2].partition("\n## ")[0]
LIMITS = [row.split("|")[1:6] for row in MEASURED.splitlines() if row.startswith("| ") and "measured by" not in row]
NAMED = sorted(
    {name for _, held_by in PROMISES for name in re.findall(r"`([^`]+)`", held_by)}
    | {name for row in LIMITS for name in re.findall(r"`([^`]+)`", row[4])}
)


def rows_of(module):
    return importlib.import_module(f"tests.adversarial.{module}").CASES


def test_every_promise_names_what_holds_it():
    assert len(PROMISES) > 15
    for promise, held_by in PROMISES:
        assert re.findall(r"`([^`]+)`", held_by), promise


def test_every_limit_of_the_machine_is_measured():
    assert len(LIMITS) > 15
    for row in LIMITS:
        assert re.findall(r"`([^`]+)`", row[4]), row


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_exists(name):
    if "::" in name:
        path, _, test = name.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    else:
        module, _, row = name.partition(": ")
        assert row in rows_of(module)


@pytest.mark.parametrize(
    "heading", ["Attacker", "Layers", "Promises", "Not promised", "Hostile tenants", "Required kernel"]
)
def test_the_page_has_what_is_looked_for(heading):
    assert f"\n## {heading}" in PAGE


def test_there_is_a_way_to_report():
    assert "docs/threat-model.md" in (ROOT / "SECURITY.md").read_text()

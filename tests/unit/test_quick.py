"""The list of `make test-quick` names tests that exist, in every folder of real tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.quick import LEFT_OUT, QUICK, is_quick

TESTS = Path(__file__).resolve().parents[1]
NAMED = [(folder, name) for folder, names in QUICK.items() for name in names]


def test_every_folder_of_tests_has_a_part_or_is_left_out():
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    assert set(QUICK) | LEFT_OUT == folders
    assert not set(QUICK) & LEFT_OUT
    assert [folder for folder, names in QUICK.items() if not names] == []


@pytest.mark.parametrize(("folder", "name"), NAMED)
def test_each_name_is_that_of_a_test(folder, name):
    file, _, test = name.partition("::")
    tree = ast.parse((TESTS / folder / file).read_text())
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    assert test in tests if test else tests


@pytest.mark.parametrize(
    ("nodeid", "variants", "quick"),
    [
        ("tests/records/test_records_runs.py::test_x[sqlite-1]", ["sqlite", 1], True),
        ("tests/records/test_records_runs.py::test_x[postgresql-1]", ["postgresql", 1], False),
        ("tests/records/test_records_faults.py::test_x", [], False),
        ("tests/faults/test_worker.py::test_only_api_and_root_may_speak_to_the_worker", [], True),
        ("tests/faults/test_worker.py::test_nothing_accumulates", [], False),
        ("tests/unit/test_quick.py::test_x", [], False),
    ],
)
def test_a_test_is_chosen_by_its_file_or_name_and_its_variant(nodeid, variants, quick):
    assert is_quick(nodeid, variants) is quick

"""Class names with one meaning: a name that several packages define is on a list that only shrinks."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PACKAGES = (
    "protocol",
    "config",
    "api",
    "sandbox",
    "worker",
    "dispatch",
    "records",
    "storage",
    "transport",
    "ops",
    "runners",
)
#: Models of the OpenAPI document have the names of what they describe; so has the language of a runner.
SHARED = frozenset({"Artifact", "Compile", "ErrorObject", "Isolation", "Language", "Run", "Usage"})


def defined_classes():
    """The files that define each class name."""
    found = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((REPO / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    found[node.name].add(str(path.relative_to(REPO)))
    return found


def test_only_listed_class_names_are_defined_twice():
    twice = {name: sorted(files) for name, files in defined_classes().items() if len(files) > 1}
    assert {name: files for name, files in twice.items() if name not in SHARED} == {}


def test_the_list_has_no_name_that_is_defined_once():
    found = defined_classes()
    assert [name for name in sorted(SHARED) if len(found[name]) < 2] == []

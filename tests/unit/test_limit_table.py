"""The rows of `protocol.limits.Limits`, and all that lists limits by hand. docs/add-a-limit.md names these places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_type_hints

import pytest
from runyard import Limits as ClientLimits

from api.openapi.models import Limits as AnsweredLimits
from protocol.limits import LIMIT_RULES, MIB, Limits

REPO = Path(__file__).resolve().parents[2]
GUIDE = (REPO / "docs" / "api.md").read_text()
PAGE = (REPO / "web" / "admin" / "src" / "program.ts").read_text().replace("\N{NARROW NO-BREAK SPACE}", " ")
PAGE_UNITS = {"ms": "ms", "MiB": "MiB", "bytes": "B"}
ENDINGS = {"_ms": "ms", "_mb": "MiB", "_bytes": "bytes", "_files": "files"}

rows = pytest.mark.parametrize("rule", LIMIT_RULES.values(), ids=LIMIT_RULES)


@rows
def test_a_row_makes_sense(rule):
    assert rule.minimum < rule.ceiling
    assert rule.default is None or rule.minimum <= rule.default <= rule.ceiling
    assert re.fullmatch(r"[A-Z].{5,60}\.", rule.sentence)
    assert all(rule.unit == unit for ending, unit in ENDINGS.items() if rule.name.endswith(ending))
    assert rule.frame is None or rule.integer, "the JOB frame has no form for fractions"


@rows
def test_a_limit_that_is_left_out_has_a_value_of_its_type_within_its_bounds(rule):
    value = getattr(Limits.resolve({}), rule.name)
    assert type(value) is (int if rule.integer else float)
    assert rule.minimum <= value <= rule.ceiling


@rows
def test_the_guide_has_it(rule):
    line = next((line for line in GUIDE.splitlines() if line.startswith(f"| `{rule.name}` |")), None)
    row = f"| `{rule.name}` | {rule.default} | {rule.minimum} | {rule.ceiling} | {rule.sentence} |"
    assert line is not None, f"docs/api.md lacks {row}"
    default, minimum, ceiling, sentence = (cell.strip() for cell in line.split("|")[2:6])
    assert sentence == rule.sentence
    assert (number(minimum), number(ceiling)) == (rule.minimum, rule.ceiling)
    assert rule.default is None or number(default) == rule.default


def number(text):
    return float(text.replace(" ", ""))


def test_the_guide_has_no_other():
    table = GUIDE.split("| limit | default |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(LIMIT_RULES)


def test_the_python_client_has_the_same():
    assert get_type_hints(ClientLimits) == get_type_hints(Limits)


def test_answers_have_the_same():
    assert list(AnsweredLimits.model_fields) == list(LIMIT_RULES)
    assert {name: field.annotation for name, field in AnsweredLimits.model_fields.items()} == get_type_hints(Limits)


def test_the_page_has_no_other():
    assert {name for name, _, _ in on_the_page()} == set(LIMIT_RULES)


@rows
def test_the_page_says_unit_default_and_ceiling(rule):
    found = [(unit, hint) for name, unit, hint in on_the_page() if name == rule.name]
    assert found, "web/admin/src/program.ts: LIMITS lacks it"
    unit, hint = found[0]
    assert unit == PAGE_UNITS.get(rule.unit, "")
    assert hint.endswith(f" {shown(rule, rule.ceiling)}")
    assert rule.default is None or f"default {shown(rule, rule.default)}," in hint


def on_the_page():
    return re.findall(r'\{ name: "(\w+)", title: "[^"]+", unit: "(\w*)", hint: "([^"]+)" \}', PAGE)


def shown(rule, value):
    if rule.unit == "bytes" and value % MIB == 0:
        return f"{value // MIB} MiB"
    return f"{value:g}" if value < 1000 else f"{value:,}".replace(",", " ")

"""The table of run states, and all that lists states by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from runyard.cli.exits import SERVICE_FAILED, exit_code, sentence
from runyard.models import LIVE, Run

from api.http.pagination import STATUSES
from protocol.states import ENDED_STATUSES, RUN_STATES, LiveStatus, Status
from records.runs import ENDED
from sandbox.run.outcome import RULES

REPO = Path(__file__).resolve().parents[2]
GUIDE = (REPO / "docs" / "api.md").read_text()
PAGE = REPO / "web" / "admin" / "src"
NAMES = {state.status for state in RUN_STATES}


def test_the_types_have_the_same_states():
    assert len(NAMES) == len(RUN_STATES)
    assert set(get_args(Status)) == NAMES
    assert set(get_args(LiveStatus)) == NAMES - set(ENDED_STATUSES)
    assert set(STATUSES) == NAMES


def test_the_records_end_a_run_in_the_same():
    assert set(ENDED_STATUSES) == ENDED


def test_each_end_has_a_rule_and_the_last_holds_for_all():
    assert set(RULES) == set(ENDED_STATUSES)
    assert ENDED_STATUSES[-1] == "succeeded"


def test_the_guide_says_the_same_of_each():
    table = GUIDE.split("| `status` | meaning |")[1].split("\n\n")[0]
    said = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE))
    assert said == {state.status: state.sentence for state in RUN_STATES}


def test_the_python_client_knows_which_have_not_ended():
    assert set(LIVE) == set(get_args(LiveStatus))


@pytest.mark.parametrize("status", ENDED_STATUSES)
def test_the_command_line_has_an_exit_code_for_each_end(status):
    run = Run.of(
        {"id": "run_x", "status": status, "language": "python", "exit_code": 1 if status == "failed" else None}
    )
    assert (exit_code(run) == SERVICE_FAILED) == (status == "error")
    assert (sentence(run) is None) == (status in {"succeeded", "failed"})


def test_the_page_has_a_title_for_each_and_offers_each():
    titles = re.search(r"const TITLES.*?\};", (PAGE / "result.ts").read_text(), re.DOTALL)
    assert set(re.findall(r"(\w+): \"", titles[0])) >= NAMES
    select = re.search(r'<select id="history-status">(.*?)</select>', (PAGE / "index.html").read_text())
    assert set(re.findall(r"<option>(\w+)</option>", select[1])) == NAMES
    live = re.search(r"const LIVE = new Set\(\[(.*?)\]\)", (PAGE / "types.ts").read_text())
    assert set(re.findall(r'"(\w+)"', live[1])) == set(get_args(LiveStatus))

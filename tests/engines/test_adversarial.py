"""The adversarial suite on every other engine and runtime: the rows are in tests/adversarial.

What tries to get out is tried everywhere; all the rest, in `make test-all`. The service's own column has them over
HTTP there, with what must hold after each; here a hello must be answered after each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from columns import SERVICE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "adversarial"))

import boundary
import leftovers
import positive
import resources
from rows import Case, filled, judge

#: In `make test` these languages alone: the others differ in what they are, not in what surrounds them.
EVERYWHERE = {"python", "bash"}


def rows():
    for module in (boundary, positive, resources, leftovers):
        for name, case in module.CASES.items():
            quick = module is boundary and case.language in EVERYWHERE
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(name, case, id=f"{module.__name__}: {name}", marks=marks)


@pytest.mark.parametrize(("name", "case"), list(rows()))
def test_row(service, run, column, name, case: Case):
    if column is SERVICE:
        pytest.skip("tests/adversarial has it, over HTTP")
    why = case.on.get(column.id)
    if isinstance(why, str):
        pytest.skip(why)
    code = filled(case.code, state=service.state, port=service.port)
    result = run(case.language, code, **case.job)
    try:
        judge(case, result, column.id)
    finally:
        assert run("bash", "echo hello")["stdout"] == "hello\n"

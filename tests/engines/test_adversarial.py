"""The adversarial suite on every other engine and runtime: the rows are in tests/adversarial.

What tries to get out is tried everywhere; all the rest, in `make test-all`. The service's own column has them over
HTTP there, with what must hold after each; here a hello must be answered after each.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tests.adversarial import boundary, counters, leftovers, machine, positive, resources
from tests.adversarial.rows import Case, filled, judge
from tests.engines.columns import SERVICE
from tests.support.workers import until

#: In `make test` these languages alone: the others differ in what they are, not in what surrounds them.
EVERYWHERE = {"python", "bash"}


def rows():
    for module in (boundary, positive, resources, leftovers, machine):
        for name, case in module.CASES.items():
            quick = module is boundary and case.language in EVERYWHERE
            marks = [] if quick else [pytest.mark.slow, pytest.mark.timeout(400)]
            yield pytest.param(name, case, id=f"{module.__name__.rpartition('.')[2]}: {name}", marks=marks)


def await_image(dispatcher, language):
    """Docker's columns begin with the languages of their pools; the rest are being loaded meanwhile."""
    until(
        lambda: any(found["id"] == language and found["ready"] for found in dispatcher.status()["languages"]), 300
    )


@pytest.mark.parametrize(("name", "case"), list(rows()))
def test_row(service, dispatcher, run, column, name, case: Case):
    if column is SERVICE:
        pytest.skip("tests/adversarial has it, over HTTP")
    why = case.on.get(column.id)
    if isinstance(why, str):
        pytest.skip(why)
    await_image(dispatcher, case.language)
    code = filled(case.code, state=service.state, port=service.port)
    of_the_machine = column.own_kernel and machine.CASES.get(name) is case
    with counters.left_alone() if of_the_machine else nullcontext():
        result = run(case.language, code, **case.job)
    try:
        judge(case, result, column.id)
    finally:
        assert run("bash", "echo hello")["stdout"] == "hello\n"

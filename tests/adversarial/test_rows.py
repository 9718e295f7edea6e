"""Each row on the service itself, over HTTP, and after each the invariants. Other columns: tests/engines."""

from __future__ import annotations

import pytest

from tests.adversarial import boundary, leftovers, machine, positive, resources
from tests.adversarial.rows import Case, filled, judge

COLUMN = "oci/crun/template"


def rows():
    for module in (boundary, positive, resources, leftovers, machine):
        for name, case in module.CASES.items():
            slow = [pytest.mark.slow] if name in getattr(module, "SLOW", ()) else []
            yield pytest.param(case, id=f"{module.__name__.rpartition('.')[2]}: {name}", marks=slow)


@pytest.mark.usefixtures("invariants")
@pytest.mark.parametrize("case", list(rows()))
def test_row(service, case: Case):
    code = filled(case.code, state=service.state, port=service.port)
    judge(case, service.run(case.language, code, **case.job), COLUMN)

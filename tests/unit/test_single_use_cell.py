"""When it must be looked again whether the time of a single-use cell is over."""

from __future__ import annotations

import time
from types import SimpleNamespace

from sandbox.engines import Stats
from sandbox.sessions.single_use import SingleCell


def cell(*, deadline_s=10.0, cpu_ms=1000, used_ms=0.0):
    made = SingleCell.__new__(SingleCell)
    made._timed_out = made._is_stopped = False
    made._deadline = time.monotonic() + deadline_s
    made._plan = SimpleNamespace(limits=SimpleNamespace(cpu_ms=cpu_ms, cpus=2.0))
    stats = Stats(int(used_ms * 1e6), 0, 0)
    made._session = SimpleNamespace(sandbox=SimpleNamespace(stats=lambda: stats))
    return made


def test_it_is_looked_when_the_processors_could_have_used_what_is_left():
    until_s = cell(used_ms=600)._next_check() - time.monotonic()
    assert 0.1 < until_s <= 0.2


def test_a_cell_that_has_used_its_processor_time_is_late():
    late = cell(used_ms=1000)
    late._next_check()
    assert late._deadline <= time.monotonic()


def test_a_cell_whose_end_is_under_way_waits_for_nothing_but_that():
    for name in ("_timed_out", "_is_stopped"):
        ending = cell(deadline_s=2)
        ending._next_check()
        setattr(ending, name, True)
        ending._cpu_check = time.monotonic() - 1
        assert ending._next_check() == ending._deadline

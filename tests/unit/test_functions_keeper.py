"""Builds are settled from their runs by whichever looks first, also after a restart; old versions go."""

from __future__ import annotations

import orjson
import pytest

from api.functions.builds import UNKNOWN_MS, Builds
from api.functions.keeper import FunctionKeeper
from config.clock import now_ms
from records import migrate, open_records
from records.functions import FunctionBounds, NewVersion
from records.runs import NewRun, RunEnd

RUN = {"status": "succeeded", "stdout": "", "stderr": "", "compile": None, "artifacts": [], "error": None}
BOUNDS = FunctionBounds(9, 9, 9**9)


@pytest.fixture
def records(tmp_path):
    url = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(url)
    opened = open_records(url)
    yield opened
    opened.close()


@pytest.fixture
def builds(records):
    return Builds(records.functions, records.runs, lambda run: run)


def add(records, run_id, *, language="python", age_ms=0, run=None, **ended):
    """A version whose build is that run: none, live, or ended."""
    at_ms = now_ms() - age_ms
    new = NewVersion("key_a", "f", language, at_ms, b"{}", b"{}", run_id)
    version = records.functions.add(new, BOUNDS).version
    if run is not None:
        records.runs.accept(NewRun(run_id, "key_a", language, at_ms, b"{}", b"{}", function="f"))
    if run == "ended":
        records.runs.finish(run_id, 1, RunEnd(ended.get("status", "succeeded"), at_ms, orjson.dumps(RUN | ended)))
    return version


def state(records, version):
    return records.functions.get("key_a", "f", version).state


def test_each_build_is_settled_from_its_run(records, builds):
    ready = add(records, "run_1", run="ended", stdout="hello")
    failed = add(records, "run_2", run="ended", status="failed", stderr="oops")
    live = add(records, "run_3", run="live", age_ms=2 * UNKNOWN_MS)
    new = add(records, "run_4")
    lost = add(records, "run_5", age_ms=2 * UNKNOWN_MS)
    program = {"path": "program", "sha256": "a" * 64, "size": 7}
    compiled = add(records, "run_6", language="go", run="ended", artifacts=[program])
    assert builds.settle_all() == 4
    found = {number: state(records, number) for number in (ready, failed, live, new, lost, compiled)}
    assert [*found.values()] == ["ready", "failed", "building", "building", "failed", "ready"]
    assert records.functions.get("key_a", "f", ready).log == "hello\n"
    assert "oops" in records.functions.get("key_a", "f", failed).log
    assert "restarted" in records.functions.get("key_a", "f", lost).log
    assert records.functions.get("key_a", "f", compiled).blob("program").size == 7
    assert builds.settle_all() == 0


def test_a_build_that_was_settled_meanwhile_stays_as_it_is(records, builds):
    add(records, "run_1", run="ended")
    seen = records.functions.get("key_a", "f")
    assert builds.settle(seen).state == "ready"
    assert builds.settle(seen).state == "ready"


def test_a_version_that_was_deleted_meanwhile_is_no_error(records, builds):
    add(records, "run_1", run="ended")
    seen = records.functions.get("key_a", "f")
    records.functions.delete("key_a", "f")
    assert builds.settle(seen).state == "building"


def test_a_pass_settles_and_removes(records, builds):
    for number in range(5):
        add(records, f"run_{number}", run="ended")
    keeper = FunctionKeeper(records.functions, builds, keep=2, interval_s=60)
    assert keeper.sweep() == 3
    assert [n for n in range(1, 6) if records.functions.get("key_a", "f", n)] == [4, 5]
    keeper.start()
    keeper.stop()

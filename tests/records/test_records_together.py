"""Two instances that clean up one database while both record runs: nothing fails, and nothing is counted twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from records import migrate
from records.files import StoredBlob
from records.functions import AddedVersion, BuildEnd, FunctionBounds, NewVersion
from records.retention import Policy, sweep, sweep_bytes
from tests.records.builders import NOW_MS, a_file, an_end, ended, key, new_run

DAY_MS = 86_400_000
OWNERS = [f"key_{number}" for number in range(5)]
RUNS_AT_FIRST, RUNS_MEANWHILE, PASSES = 25, 15, 12
CONTENTS = [b"one", b"two", b"three" * 20]
BOUNDS = FunctionBounds(functions=100, names=100, total_bytes=10**9)


@pytest.fixture
def both(empty_url, open_at):
    migrate(empty_url)
    return [open_at(empty_url, instance=name) for name in ("inst_a", "inst_b")]


def run_of(records, owner, at_ms):
    """A run that has ended, with artifacts whose contents others have too."""
    files = tuple(a_file(content, expires_at_ms=at_ms + 1) for content in CONTENTS)
    return ended(records, owner, an_end(ended_at_ms=at_ms, artifacts=files))


def add_version(records, owner):
    version = NewVersion(
        owner=owner, name="f", language="go", created_at_ms=NOW_MS, document=b"{}", source=b"", build_run_id="run_x"
    )
    added = records.functions.add(version, BOUNDS)
    assert isinstance(added, AddedVersion)
    assert records.functions.end_build(owner, "f", added.version, BuildEnd("ready", NOW_MS, ""))


def clean(records):
    """The passes of one instance."""
    for _ in range(PASSES):
        sweep(records.retention, Policy(1, 10**9), NOW_MS)
        sweep_bytes(records.retention, Policy(1, 10**9, records_bytes=1))
        records.retention.expire_files(now_ms=NOW_MS)
        records.retention.expire_idempotency(now_ms=NOW_MS)
        records.files.delete_rows(records.files.unreferenced(before_ms=NOW_MS * 2))
        records.functions.prune(keep=1)
        records.runs.adopt()
        records.sessions.adopt()


def record(records):
    """The runs that one instance records meanwhile, all of which are to be kept no longer."""
    for number in range(RUNS_MEANWHILE):
        for owner in OWNERS if number % 2 else OWNERS[::-1]:
            run_of(records, owner, NOW_MS - 2 * DAY_MS)
            ended(records, owner, an_end(never_began=True), created_at_ms=NOW_MS)


def test_two_instances_clean_up_one_database_at_a_time(both):
    for _ in range(RUNS_AT_FIRST):
        for owner in OWNERS:
            run_of(both[0], owner, NOW_MS - 2 * DAY_MS)
    for owner in OWNERS:
        for _ in range(4):
            add_version(both[1], owner)
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work, records) for work in (clean, record, clean) for records in both]
    for one in done:
        one.result()  # raises what the thread has raised
    clean(both[0])
    for owner in OWNERS:
        assert both[1].files.stored_bytes(owner) == 0, "each file was taken from its owner's bytes once"
        assert len(both[1].runs.list(owner, limit=1000).items) <= RUNS_MEANWHILE
    assert not both[0].files.in_use([StoredBlob("artifact", a_file(content).sha256) for content in CONTENTS])
    sweep(both[0].retention, Policy(1, 0), NOW_MS)
    assert both[0].retention.kept_bytes() == 0, "each run was taken from the kept bytes once"


def test_one_key_of_idempotency_is_claimed_by_one_of_two_instances(both):
    def claim(number):
        return type(both[number % 2].runs.accept(new_run(), key("of-both"))).__name__

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(claim, range(16)))
    assert sorted(set(found)) == ["AcceptedRun", "Duplicate"]
    assert found.count("AcceptedRun") == 1

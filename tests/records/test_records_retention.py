"""Retention: by age, by count, never a live run, and nothing of a run outlives it."""

from __future__ import annotations

import time

from records.files import StoredBlob
from records.retention import BATCH, Policy, Retention, sweep
from records.runs import IDEMPOTENCY_MS, AcceptedRun, Duplicate
from tests.records.builders import NOW_MS, a_file, accepted, an_end, ended, events, key, new_run

DAY_MS = 86_400_000
ALL = 10**9


def ids(records, owner="key_a"):
    return [run.id for run in records.runs.list(owner, limit=1000, order="asc").items]


def ended_at(records, at_ms, **fields):
    return ended(records, end=an_end(ended_at_ms=at_ms, **fields))


def test_runs_go_by_age_counted_from_their_end(own_records):
    records = own_records
    old = ended_at(records, NOW_MS - DAY_MS - 1)
    edge = ended_at(records, NOW_MS - DAY_MS)
    live = accepted(records, created_at_ms=1)
    assert sweep(records.retention, Policy(1, ALL), NOW_MS) == 1
    assert ids(records) == [edge, live]
    assert records.runs.get("key_a", old) is None


def test_runs_go_by_count_the_longest_ended_first(own_records):
    records = own_records
    live = accepted(records)
    third, first, second, fourth = (ended_at(records, NOW_MS + n) for n in (3, 1, 2, 4))
    assert sweep(records.retention, Policy(1, 3), NOW_MS) == 1
    assert records.runs.get("key_a", first) is None
    assert sweep(records.retention, Policy(1, 1), NOW_MS) == 2
    assert ids(records) == [live, fourth]
    assert records.runs.get("key_a", second) is records.runs.get("key_a", third) is None


def test_age_and_count_together(own_records):
    records = own_records
    for n in range(4):
        ended_at(records, NOW_MS - 2 * DAY_MS + n)
    newer = [ended_at(records, NOW_MS + n) for n in range(4)]
    assert sweep(records.retention, Policy(1, 6), NOW_MS) == 4
    assert ids(records) == newer
    assert sweep(records.retention, Policy(1, 2), NOW_MS) == 2
    assert ids(records) == newer[2:]


def test_more_than_a_batch_goes_in_several(own_records):
    records = own_records
    count = 2 * BATCH + 30
    for n in range(count):
        ended_at(records, NOW_MS + n)
    assert sweep(records.retention, Policy(1, 10), NOW_MS) == count - 10
    assert len(ids(records)) == 10


def test_nothing_of_a_run_outlives_it(own_records, clock):
    records = own_records
    artifact = a_file(size=70)
    run_id = ended_at(records, NOW_MS - 2 * DAY_MS, events=events(1, 2), artifacts=(artifact,))
    assert sweep(records.retention, Policy(1, ALL), NOW_MS) == 1
    assert records.runs.request("key_a", run_id) is None
    assert records.runs.events("key_a", run_id) is None
    assert records.files.stored_bytes("key_a") == 0
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == (StoredBlob("artifact", artifact.sha256),)


def test_a_runs_idempotency_key_outlives_it_for_its_day(own_records):
    records = own_records
    run = new_run()
    records.runs.accept(run, key())
    records.runs.finish(run.id, 1, an_end())
    assert records.retention.sweep_runs(ended_before_ms=NOW_MS + DAY_MS, keep_at_most=ALL) == 1
    assert records.runs.get("key_a", run.id) is None
    assert records.retention.expire_idempotency(now_ms=NOW_MS + IDEMPOTENCY_MS - 1) == 0
    soon = new_run(created_at_ms=NOW_MS + IDEMPOTENCY_MS - 1)
    assert records.runs.accept(soon, key()) == Duplicate(run.id)
    again = new_run(created_at_ms=NOW_MS + IDEMPOTENCY_MS)
    assert records.runs.accept(again, key()) == AcceptedRun()
    assert records.retention.expire_idempotency(now_ms=NOW_MS + IDEMPOTENCY_MS) == 0
    assert records.retention.expire_idempotency(now_ms=NOW_MS + 2 * IDEMPOTENCY_MS) == 1


def test_the_thread_sweeps_and_stops(own_records):
    records = own_records
    old = ended_at(records, 1)
    kept = ended_at(records, time.time_ns() // 1_000_000)
    thread = Retention(records.retention, lambda: Policy(1, ALL))
    thread.start()
    deadline = time.monotonic() + 10
    while records.runs.get("key_a", old) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    thread.stop()
    assert ids(records) == [kept]
    assert not thread.alive

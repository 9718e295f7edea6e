"""A run's life: accepted, begun, retried, finished once; what is kept of it, and who may see it."""

from __future__ import annotations

from datetime import date

import pytest

from records.errors import UnknownCursor
from records.runs import AcceptedRun, OverQuota
from records.sql.listing import UNFINISHED_BATCH
from records.usage import Quota, RunUsage
from tests.records.builders import NOW_MS, a_file, accepted, an_end, ended, events, new_run, unique


def test_an_accepted_run_is_there_before_anything_else_happens(records):
    run = new_run(document=b'{"a":1}', request=b'{"code":"print()"}')
    assert records.runs.accept(run) == AcceptedRun(attempt=1)
    found = records.runs.get(run.owner, run.id)
    assert (found.status, found.attempt, found.ended, found.document) == ("queued", 1, False, b'{"a":1}')
    assert records.runs.request(run.owner, run.id) == b'{"code":"print()"}'


def test_a_run_is_its_owners_and_nobody_elses(records):
    run_id = ended(records, "key_a", an_end(events=events(1)))
    for owner in ("key_b", "", "key_a\0", "\ud800"):
        assert records.runs.get(owner, run_id) is None
        assert records.runs.request(owner, run_id) is None
        assert records.runs.events(owner, run_id) is None
        assert records.runs.delete(owner, run_id) == "unknown"
    assert records.runs.get("key_a", run_id) is not None


@pytest.mark.parametrize("run_id", ["", "run_", "run_\0", "\0", "run_\ud800", "ü" * 5000, "'; DROP TABLE runs"])
def test_an_id_that_is_none_is_not_found(records, run_id):
    assert records.runs.get("key_a", run_id) is None
    assert records.runs.delete("key_a", run_id) == "unknown"
    assert not records.runs.discard(run_id)
    assert not records.runs.is_live(run_id)
    assert not records.runs.finish(run_id, 1, an_end())
    with pytest.raises(UnknownCursor):
        records.runs.list("key_a", limit=1, after=run_id)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 4095, 4096, 5000, 100_000, 3_000_000])
@pytest.mark.parametrize("byte", [b"\0", b"x"])
def test_documents_and_requests_come_back_as_they_were(records, size, byte):
    run = new_run(document=byte * size, request=byte * size)
    records.runs.accept(run)
    assert records.runs.get(run.owner, run.id).document == byte * size
    assert records.runs.request(run.owner, run.id) == byte * size
    records.runs.finish(run.id, 1, an_end(document=byte * (size + 1)))
    assert records.runs.get(run.owner, run.id).document == byte * (size + 1)


def test_a_request_that_does_not_compress_is_kept_as_well(records):
    import os

    run = new_run(request=os.urandom(20_000))
    records.runs.accept(run)
    assert records.runs.request(run.owner, run.id) == run.request


def test_begin_takes_a_queued_run_once(records):
    run_id = accepted(records)
    assert records.runs.begin(run_id, 1, b"running")
    assert not records.runs.begin(run_id, 1, b"again")
    found = records.runs.get("key_a", run_id)
    assert (found.status, found.document) == ("running", b"running")


def test_a_run_may_start_as_running_and_may_end_while_queued(records):
    begun = accepted(records, status="running")
    assert records.runs.get("key_a", begun).status == "running"
    assert not records.runs.begin(begun, 1, b"")
    queued = accepted(records)
    assert records.runs.finish(queued, 1, an_end("cancelled"))
    assert records.runs.get("key_a", queued).status == "cancelled"


def test_an_ended_run_never_changes(records):
    run_id = ended(records, end=an_end("failed", document=b"first"))
    assert not records.runs.finish(run_id, 1, an_end("succeeded", document=b"second", events=events(9)))
    assert not records.runs.begin(run_id, 1, b"")
    assert records.runs.retry(run_id, 1, b"") is None
    assert not records.runs.append_events(run_id, 1, events(1))
    assert not records.runs.discard(run_id)
    found = records.runs.get("key_a", run_id)
    assert (found.status, found.document, found.ended_at_ms) == ("failed", b"first", NOW_MS + 5)
    assert records.runs.events("key_a", run_id).events == ()


def test_a_run_is_live_until_it_has_ended(records):
    run = new_run()
    assert not records.runs.is_live(run.id)
    records.runs.accept(run)
    assert records.runs.is_live(run.id)
    records.runs.finish(run.id, 1, an_end())
    assert not records.runs.is_live(run.id)


def test_what_an_earlier_attempt_says_changes_nothing(records):
    run_id = accepted(records, status="running")
    assert records.runs.retry(run_id, 1, b"queued again") == 2
    assert not records.runs.finish(run_id, 1, an_end())
    assert not records.runs.append_events(run_id, 1, events(1))
    assert records.runs.retry(run_id, 1, b"") is None
    assert records.runs.begin(run_id, 2, b"running")
    assert records.runs.finish(run_id, 2, an_end(document=b"second"))
    found = records.runs.get("key_a", run_id)
    assert (found.attempt, found.document) == (2, b"second")


def test_only_a_status_that_ends_a_run_ends_it(records):
    run_id = accepted(records)
    for status in ("queued", "running", "", "done"):
        with pytest.raises(ValueError, match="status"):
            records.runs.finish(run_id, 1, an_end(status))
    assert not records.runs.get("key_a", run_id).ended


def test_a_discarded_run_never_was(records):
    run_id = accepted(records)
    assert records.runs.discard(run_id)
    assert records.runs.get("key_a", run_id) is None
    assert not records.runs.discard(run_id)


def test_deleting_forgets_the_run_and_all_that_is_its(records):
    owner = unique("key")
    artifact = a_file()
    run_id = ended(records, owner, an_end(events=events(1, 2), artifacts=(artifact,)))
    assert records.files.get(owner, artifact.id).run_id == run_id
    assert records.runs.delete(owner, run_id) == "deleted"
    assert records.runs.get(owner, run_id) is None
    assert records.runs.events(owner, run_id) is None
    assert records.files.get(owner, artifact.id) is None
    assert records.files.stored_bytes(owner) == 0
    assert records.runs.delete(owner, run_id) == "unknown"


def test_a_live_run_is_not_deleted(records):
    run_id = accepted(records)
    assert records.runs.delete("key_a", run_id) == "live"
    assert records.runs.get("key_a", run_id) is not None


def test_unfinished_runs_are_those_that_have_not_ended_oldest_first(own_records):
    runs = own_records.runs
    first, second, third = (accepted(own_records, owner) for owner in ("a", "b", "a"))
    ended(own_records)
    runs.begin(second, 1, b"running")
    found = list(runs.unfinished())
    assert [(run.id, run.owner, run.status) for run in found] == [
        (first, "a", "queued"),
        (second, "b", "running"),
        (third, "a", "queued"),
    ]


def test_recovery_sees_no_run_that_is_accepted_meanwhile_and_each_other_once(own_records):
    runs = own_records.runs
    made = [accepted(own_records) for _ in range(2 * UNFINISHED_BATCH + 5)]
    left = runs.unfinished()
    new = accepted(own_records)
    seen = []
    for number, run in enumerate(left):
        seen.append(run.id)
        # Whatever becomes of a run that was seen, the next batch goes on where this one ended.
        runs.discard(run.id) if number % 2 else runs.finish(run.id, 1, an_end())
    assert seen == made
    assert [run.id for run in runs.unfinished()] == [new]


def test_usage_is_added_up_when_runs_end_and_only_then(records):
    owner = unique("key")
    used = RunUsage(cpu_ms=3, wall_ms=10, memory_mb_ms=2560, bytes_in=100, bytes_out=7, egress_bytes=5)
    late = NOW_MS + 86_400_000
    ended(records, owner, an_end(usage=used))
    ended(records, owner, an_end(usage=used))
    ended(records, owner, an_end(usage=used), language="node")
    ended(records, owner, an_end(usage=used, ended_at_ms=late))
    accepted(records, owner)
    first, last = date(2027, 1, 15), date(2027, 1, 16)
    rows = records.usage.usage(owner, first, last)
    assert [(row.day, row.language, row.runs, row.cpu_ms) for row in rows] == [
        (first, "node", 1, 3),
        (first, "python", 2, 6),
        (last, "python", 1, 3),
    ]
    assert (rows[1].wall_ms, rows[1].memory_mb_ms, rows[1].bytes_in, rows[1].bytes_out) == (20, 5120, 200, 14)
    assert rows[1].egress_bytes == 10
    assert records.usage.usage(owner, first, first) == rows[:2]
    assert records.usage.usage(unique("key"), first, last) == ()


def test_usage_outlives_its_runs(records):
    owner = unique("key")
    run_id = ended(records, owner, an_end(usage=RunUsage(cpu_ms=1)))
    records.runs.delete(owner, run_id)
    (row,) = records.usage.usage(owner, date(2027, 1, 15), date(2027, 1, 15))
    assert row.runs == 1


def test_a_quota_counts_runs_as_they_are_accepted_and_gives_back_discarded_ones(records):
    owner = unique("key")
    quota = Quota("2027-01", 2)
    first = accepted(records, owner, quota=quota)
    ended(records, owner, quota=quota)
    over = new_run(owner, quota=quota)
    assert records.runs.accept(over) == OverQuota(used=2, limit=2)
    assert records.runs.get(owner, over.id) is None
    assert records.runs.accept(new_run(owner, quota=Quota("2027-02", 1))) == AcceptedRun()
    records.runs.discard(first)
    assert records.usage.counted(owner, "2027-01") == 1
    assert records.runs.accept(new_run(owner, quota=quota)) == AcceptedRun()
    assert records.usage.counted(owner, "2027-01") == 2
    assert records.runs.accept(new_run(owner, quota=Quota("none", 0))) == OverQuota(used=0, limit=0)


def test_the_database_answers(records):
    records.ping()

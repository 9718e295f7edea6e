"""Idempotency keys: one run a key, for 24 hours, whatever comes in parallel and whatever is restarted."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from records.runs import IDEMPOTENCY_MS, AcceptedRun, Duplicate, Mismatch, OverQuota
from records.usage import Quota
from tests.records.builders import NOW_MS, accepted, an_end, ended, key, new_run, unique

PARALLEL = 20


def test_the_same_key_and_request_name_the_same_run(records):
    first = new_run(unique("key"))
    assert records.runs.accept(first, key()) == AcceptedRun()
    for _ in range(2):
        again = new_run(first.owner)
        assert records.runs.accept(again, key()) == Duplicate(first.id)
        assert records.runs.get(first.owner, again.id) is None


def test_another_request_under_the_same_key_is_a_mismatch(records):
    first = new_run(unique("key"))
    records.runs.accept(first, key(body=b"one"))
    assert records.runs.accept(new_run(first.owner), key(body=b"two")) == Mismatch()


def test_keys_are_each_owners_own(records):
    one, two = new_run(unique("key")), new_run(unique("key"))
    assert records.runs.accept(one, key()) == AcceptedRun()
    assert records.runs.accept(two, key()) == AcceptedRun()


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "ü" * 10_000, "a" * 1_000_000])
def test_any_text_is_a_key(records, text):
    first = new_run(unique("key"))
    assert records.runs.accept(first, key(text)) == AcceptedRun()
    assert records.runs.accept(new_run(first.owner), key(text)) == Duplicate(first.id)
    assert records.runs.accept(new_run(first.owner), key(text + "x")) == AcceptedRun()


def test_a_key_is_free_again_after_a_day_without_any_sweep(records):
    owner = unique("key")
    first = new_run(owner)
    records.runs.accept(first, key())
    before = new_run(owner, created_at_ms=NOW_MS + IDEMPOTENCY_MS - 1)
    assert records.runs.accept(before, key()) == Duplicate(first.id)
    after = new_run(owner, created_at_ms=NOW_MS + IDEMPOTENCY_MS)
    assert records.runs.accept(after, key(body=b"another")) == AcceptedRun()
    last = new_run(owner, created_at_ms=NOW_MS + IDEMPOTENCY_MS + 1)
    assert records.runs.accept(last, key(body=b"another")) == Duplicate(after.id)


def test_a_discarded_run_frees_its_key_and_a_deleted_one_does_not(records):
    owner = unique("key")
    refused = new_run(owner)
    records.runs.accept(refused, key())
    records.runs.discard(refused.id)
    run = new_run(owner)
    assert records.runs.accept(run, key()) == AcceptedRun()
    records.runs.finish(run.id, 1, an_end())
    records.runs.delete(owner, run.id)
    assert records.runs.accept(new_run(owner), key()) == Duplicate(run.id)


@pytest.mark.parametrize("never_began", [True, False])
def test_a_run_that_ended_before_it_began_frees_its_key_and_is_not_counted(records, never_began):
    owner, quota = unique("key"), Quota("2026-01", 1)
    run = new_run(owner, quota=quota)
    records.runs.accept(run, key())
    assert records.runs.finish(run.id, 1, an_end("error", never_began=never_began))
    assert records.runs.get(owner, run.id).status == "error"
    assert records.usage.counted(owner, "2026-01") == (0 if never_began else 1)
    again = new_run(owner, quota=quota)
    assert records.runs.accept(again, key()) == (AcceptedRun() if never_began else Duplicate(run.id))


def test_discarding_frees_no_key_that_stands_for_another_run(records):
    owner = unique("key")
    old = new_run(owner)
    records.runs.accept(old, key())
    newer = new_run(owner, created_at_ms=NOW_MS + IDEMPOTENCY_MS)
    records.runs.accept(newer, key())
    records.runs.discard(old.id)
    again = new_run(owner, created_at_ms=NOW_MS + IDEMPOTENCY_MS + 1)
    assert records.runs.accept(again, key()) == Duplicate(newer.id)


def test_a_duplicate_is_not_counted_and_a_refused_run_takes_no_key(records):
    owner = unique("key")
    quota = Quota("all", 1)
    first = new_run(owner, quota=quota)
    assert records.runs.accept(first, key()) == AcceptedRun()
    assert records.runs.accept(new_run(owner, quota=quota), key()) == Duplicate(first.id)
    assert records.runs.accept(new_run(owner, quota=quota), key("other")) == OverQuota(1, 1)
    assert records.runs.accept(new_run(owner), key("other")) == AcceptedRun()


def in_parallel(work, count=PARALLEL):
    barrier = Barrier(count)

    def one(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_parallel_duplicates_exactly_one_is_accepted(records):
    for _ in range(5):
        owner = unique("key")
        runs = [new_run(owner) for _ in range(PARALLEL)]
        answers = in_parallel(lambda n, runs=runs: records.runs.accept(runs[n], key()))
        (winner,) = [run.id for run, answer in zip(runs, answers, strict=True) if answer == AcceptedRun()]
        assert answers.count(Duplicate(winner)) == PARALLEL - 1
        assert [run.id for run in records.runs.list(owner, limit=100).items] == [winner]


def test_of_fifty_parallel_requests_on_the_last_run_one_is_admitted(records):
    owner = unique("key")
    quota = Quota("all", 3)
    for _ in range(2):
        ended(records, owner, quota=quota)
    answers = in_parallel(lambda _: records.runs.accept(new_run(owner, quota=quota)), 50)
    assert answers.count(AcceptedRun()) == 1
    assert answers.count(OverQuota(3, 3)) == 49
    assert records.usage.counted(owner, "all") == 3


def test_a_run_is_finished_once_however_many_try(records):
    run_id = accepted(records)
    answers = in_parallel(lambda n: records.runs.finish(run_id, 1, an_end(document=b"%d" % n)))
    assert answers.count(True) == 1
    assert records.runs.get("key_a", run_id).document == b"%d" % answers.index(True)


def test_a_key_holds_across_a_restart(shared_url, records, open_at):
    first = new_run(unique("key"))
    records.runs.accept(first, key())
    again = open_at(shared_url)
    assert again.runs.accept(new_run(first.owner), key()) == Duplicate(first.id)


ACCEPT = """
import sys
from tests.records.builders import key, new_run
from records import open_records
records = open_records(sys.argv[1])
records.ping()
sys.stdin.readline()
for number in range(20):
    print(type(records.runs.accept(new_run(sys.argv[2]), key(f"k{number}"))).__name__, flush=True)
"""


def test_duplicates_in_several_processes(shared_url, records):
    owner = unique("key")
    argv = [sys.executable, "-c", ACCEPT, shared_url, owner]
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(argv, env=env, **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert (answers.count("AcceptedRun"), answers.count("Duplicate"), len(answers)) == (20, 60, 80)
    assert len(records.runs.list(owner, limit=100).items) == 20

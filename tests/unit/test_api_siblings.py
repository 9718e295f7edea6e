"""Several processes of api: a result that another one expects is left to it, and nothing is given up too early."""

from __future__ import annotations

import time

import pytest

from api.runs import reconciler
from api.runs.document import RunRecord
from api.runs.reconciler import ResultReconciler
from api.runs.requests import parse_run
from dispatch import FeedItem, WorkerLost
from protocol.limits import Limits
from protocol.result import Result
from records import migrate, open_records
from tests.support.workers import until


class Worker:
    """A dispatcher that tells what it is given, and remembers what was acknowledged."""

    def __init__(self, live=()):
        self.live = {run_id: {"id": run_id, "status": "running", "at": "t"} for run_id in live}
        self.acknowledged = []

    def collect(self, *, client_fd=None):
        yield FeedItem("runs", {"live": dict(self.live)})
        raise WorkerLost("gone")

    def acknowledge(self, run_id):
        self.acknowledged.append(run_id)


@pytest.fixture
def store(tmp_path):
    url = f"sqlite:///{tmp_path}/db.sqlite"
    migrate(url)
    records = open_records(url)
    yield records.runs
    records.close()


def accepted(store):
    request = parse_run({"language": "python", "code": "x"})
    facts = RunRecord.of(request, owner="key_1", language="python", pids_default=64)
    store.accept(facts.accepted("running", b"{}"))
    return facts


def made(worker, store):
    return ResultReconciler(worker, store, keep_files_ms=1000, siblings=True)


RESULT = Result(status="succeeded", language="python", limits=Limits.resolve({})).to_json()


def test_a_siblings_result_is_left_to_it_until_it_is_recorded(store):
    facts, worker = accepted(store), Worker()
    one = made(worker, store)
    one._note_end(facts.id, RESULT)
    assert worker.acknowledged == []
    store.finish(facts.id, 1, facts.ended(RESULT))
    one._note_end(facts.id, RESULT)
    assert worker.acknowledged == [facts.id]


def test_a_run_that_a_sibling_is_about_to_dispatch_is_not_given_up(store):
    facts = accepted(store)
    one = made(Worker(), store)
    before = time.monotonic()
    one._recover()
    one._fail_missing({}, before)
    assert store.get("key_1", facts.id).status == "running"


def test_what_nobody_has_is_given_up_after_a_while_and_what_the_worker_has_is_not(store, monkeypatch):
    monkeypatch.setattr(reconciler, "SETTLED_S", 0.05)
    lost, lives = accepted(store), accepted(store)
    one = made(Worker(live=[lives.id]), store)
    one.start()
    until(lambda: store.get("key_1", lost.id).status == "error")
    one.stop()
    assert store.get("key_1", lives.id).status == "running"

"""Several processes of api: a result that another one expects is left to it, and nothing is given up too early."""

from __future__ import annotations

import select
import time

import pytest

from api.runs import reconciler
from api.runs.document import RunRecord
from api.runs.reconciler import ResultReconciler
from api.runs.requests import parse_run
from dispatch import ClientGone, FeedItem, WorkerLost
from protocol.limits import Limits
from protocol.result import Result
from records import migrate, open_records
from records.leases import Instance
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


def of_instances(worker, store):
    return ResultReconciler(worker, store, keep_files_ms=1000, instances=True)


def test_the_runs_of_an_instance_that_died_are_taken_over_while_others_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(reconciler, "ADOPT_S", 0.02)
    url = f"sqlite:///{tmp_path}/shared.sqlite"
    migrate(url)
    mine, theirs, other = (open_records(url, instance=name) for name in ("inst_mine", "inst_dead", "inst_lives"))
    instances = [Instance(name, name, name, "jobs", ("key",)) for name in ("inst_mine", "inst_dead", "inst_lives")]
    for instance in instances:
        assert mine.leases.acquire(instance) is None
    facts, foreign = accepted(theirs.runs), accepted(other.runs)
    worker = OfferingWorker({facts.id: RESULT, foreign.id: RESULT})
    one = of_instances(worker, mine.runs)
    one.start()
    until(lambda: worker.offered)
    mine.leases.release(instances[1])
    until(lambda: worker.acknowledged == [facts.id])
    assert mine.runs.get("key_1", facts.id).status == "succeeded"
    assert mine.runs.get("key_1", foreign.id).status == "running"
    one.stop()
    for records in (mine, theirs, other):
        records.close()


def test_a_result_that_was_recorded_and_not_acknowledged_is_at_last(store, monkeypatch):
    monkeypatch.setattr(reconciler, "SETTLED_S", 0.05)
    facts = accepted(store)
    worker = OfferingWorker({facts.id: RESULT})
    store.finish(facts.id, 1, facts.ended(RESULT))
    one = of_instances(worker, store)
    one.start()
    until(lambda: worker.acknowledged == [facts.id])
    one.stop()


def test_a_run_taken_over_that_its_first_instance_has_recorded_is_not_ended_again(store, caplog):
    facts = accepted(store)
    one = of_instances(Worker(), store)
    one._recover()
    store.finish(facts.id, 1, facts.ended(RESULT))
    with caplog.at_level("INFO"):
        one._fail_missing((), float("inf"))
    assert store.get("key_1", facts.id).status == "succeeded"
    assert "lost" not in caplog.text
    assert one._expected == {}


class OfferingWorker:
    """A dispatcher that offers the results that are not acknowledged, each time that it is asked."""

    is_connected = True

    def __init__(self, results):
        self.results = results
        self.acknowledged = []
        self.offered = 0

    def collect(self, *, client_fd=None):
        yield FeedItem("runs", {"live": dict.fromkeys(self.results)})
        for run_id, result in list(self.results.items()):
            yield FeedItem("ended", {"run_id": run_id, "result": result})
        self.offered += 1
        hung_up = select.poll()
        hung_up.register(client_fd, select.POLLHUP)
        hung_up.poll()
        raise ClientGone

    def acknowledge(self, run_id):
        self.acknowledged.append(run_id)
        self.results.pop(run_id, None)

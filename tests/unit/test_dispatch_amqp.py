"""Placing jobs on announced workers, and several workers shown as one, without a broker."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dispatch import WorkerUnavailable
from dispatch import amqp_workers as workers_module
from dispatch.amqp_merge import merge_metrics, merge_status
from dispatch.amqp_workers import RemoteWorker, WorkerDirectory
from protocol.job import Job
from protocol.result import Refusal
from transport.endpoint import Peer

FACTS = {"languages": ["bash"], "isolations": ["default"], "places": 4, "load": 0}


def job(language="bash", **fields):
    return Job(run_id="run_1", language=language, code="", **fields)


def announced(directory, name, **facts):
    worker = directory.find(name) or RemoteWorker(Peer(name, f"q.{name}", 0.0), None, None, None)
    directory.announce(worker, FACTS | facts)
    return worker


@pytest.fixture
def directory(monkeypatch):
    monkeypatch.setattr(workers_module, "FIRST_WORKER_S", 0.01)
    return WorkerDirectory()


def test_without_a_worker_nothing_is_started(directory):
    with pytest.raises(WorkerUnavailable):
        directory.place(job(), ())


def test_a_job_goes_to_most_free_places_of_those_that_can_run_it(directory):
    small = announced(directory, "small", places=2)
    large = announced(directory, "large", places=8, load=5)
    announced(directory, "python", places=99, languages=["python"])
    announced(directory, "stopping", places=99, is_stopping=True)
    assert directory.place(job(), ()) is large
    assert directory.place(job(), {"large"}) is small
    assert directory.place(job(), {"large", "small"}) is None
    announced(directory, "large", places=8, load=7)
    assert directory.place(job(), ()) is small
    refused = directory.place(job(isolation="gvisor"), ())
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.code) == (503, "language_not_ready")


def test_own_runs_count_before_they_are_announced_and_not_twice_after(directory):
    worker = announced(directory, "w")
    with directory.carrying(worker, "run_1"):
        assert worker.free == 3
        announced(directory, "w", load=1)
        assert worker.free == 3
        announced(directory, "w", load=2)
        assert worker.free == 2
    assert worker.free == 3


def test_runs_that_were_handed_over_count_until_they_are_announced(directory, monkeypatch):
    worker = announced(directory, "w")
    clock = [0.0]
    monkeypatch.setattr(workers_module.time, "monotonic", lambda: clock[0])
    directory.hand_over(worker, "run_1")
    assert worker.free == 3
    announced(directory, "w", load=1)
    assert worker.free == 3
    clock[0] = workers_module.ANNOUNCED_S + 1
    worker.settle()
    assert worker.free == 3
    announced(directory, "w", load=0)
    assert worker.free == 4


def test_the_worker_of_a_run_is_remembered_while_it_is_there(directory):
    one, two = announced(directory, "one"), announced(directory, "two")
    directory.remember("run_1", "two")
    assert directory.home("run_1") is two
    assert directory.by_likelihood("run_1") == [two, one]
    directory.remove("two")
    directory.remove("two")
    assert directory.home("run_1") is None
    assert (directory.known(), directory.losses) == ([one], 1)


@pytest.mark.parametrize("value", [None, "bash", 7, [7], {"a": 1}, -1, True, 1e9])
def test_an_announcement_that_cannot_be_read_offers_nothing(directory, value):
    worker = announced(directory, "w", **dict.fromkeys(("languages", "isolations", "places", "load"), value))
    assert not worker.can_run(job())
    assert worker.places >= 0
    assert worker.others >= 0


def status(**fields):
    language = {"id": "bash", "ready": True, "version": "5"}
    return {
        "engine": "oci", "languages": [language], "pool": {"bash": {"size": 2, "ready": 1}}, "gvisor_pool": {},
        "queue": {"waiting": 1, "running": 2}, "confined": True, "posture": {"seccomp": "ok"},
        "isolations": ["default"], "sandboxes": {"usable": True, "failing": []}, **fields,
    }  # fmt: skip


def test_the_status_of_several_workers_is_their_sum_and_their_weakest():
    other = status(
        languages=[{"id": "bash", "ready": False}, {"id": "node", "ready": True}],
        posture={"seccomp": "fail"},
        isolations=["default", "gvisor"],
        sandboxes={"usable": False, "failing": ["node"]},
        confined=False,
    )
    merged = merge_status([other, status()])
    assert {language["id"]: language["ready"] for language in merged["languages"]} == {"bash": True, "node": True}
    assert merged["pool"] == {"bash": {"size": 4, "ready": 2}}
    assert merged["queue"] == {"waiting": 2, "running": 4}
    assert (merged["confined"], merged["posture"]) == (False, {"seccomp": "fail"})
    assert merged["isolations"] == ["default", "gvisor"]
    assert merged["sandboxes"] == {"usable": True, "failing": ["node"]}
    assert merge_status([status()]) == status()


def test_metrics_of_several_workers_are_one_page_that_can_be_read():
    page = (
        "# HELP runs_total Runs.\n# TYPE runs_total counter\n"
        'runs_total{language="ba\\"sh"} 3.0\n# HELP depth Waiting.\n# TYPE depth gauge\ndepth 1.0\n'
    )
    merged = merge_metrics([("w1", page), ("w2", page)])
    families = {family.name: family for family in text_string_to_metric_families(merged)}
    assert set(families) == {"runs", "depth"}
    assert [sample.labels for sample in families["runs"].samples] == [
        {"language": 'ba"sh', "worker": "w1"},
        {"language": 'ba"sh', "worker": "w2"},
    ]
    assert merged.count("# TYPE depth") == 1

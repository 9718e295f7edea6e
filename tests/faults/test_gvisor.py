"""gVisor beside another runtime: where it is not offered that is said, and its pool goes when the worker does."""

from __future__ import annotations

import json

from protocol.result import Refusal
from tests.support.workers import until


def test_where_it_is_not_offered_a_run_is_refused_and_never_run_otherwise(start_worker):
    worker = start_worker(GVISOR_POOL="off")
    refused = worker.run("bash", "echo 1", isolation="gvisor")
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.code, refused.param) == (400, "not_supported", "isolation")
    assert "gvisor is not available here" in refused.message
    assert worker.dispatcher.status()["isolations"] == ["default", "container"]
    assert worker.run("bash", "echo 1")["stdout"] == "1\n"


def test_its_pool_is_kept_as_asked_and_taken_apart_with_the_worker(start_worker):
    worker = start_worker(GVISOR_POOL="bash=1", WARM_POOL="bash=0")
    assert worker.dispatcher.status()["isolations"] == ["default", "container", "gvisor"]
    until(lambda: worker.dispatcher.status()["gvisor_pool"]["bash"]["ready"] == 1, 60)
    run = worker.run("bash", "echo 1", isolation="gvisor", limits={"timeout_ms": 30_000})
    assert (run["stdout"], run["isolation"]["source"], run["isolation"]["runtime"]) == ("1\n", "pool", "runsc")
    until(lambda: worker.dispatcher.status()["gvisor_pool"]["bash"]["ready"] == 1, 60)
    assert {posture["name"] for posture in ask(worker, "posture")} == {"oci/runsc", "oci/crun"}
    assert worker.stop() == 0
    assert worker.groups() == []


def test_a_worker_that_is_never_asked_keeps_none(start_worker):
    worker = start_worker()
    assert all(shelf == {"ready": 0, "size": 0} for shelf in worker.dispatcher.status()["gvisor_pool"].values())
    assert "gvisor" not in worker.dispatcher.status()["posture"]


def test_a_wish_for_its_pool_that_cannot_be_read_is_named(service, state):
    from tests.support.workers import Worker

    worker = Worker(state, service.images, GVISOR_POOL="cobol=1")
    assert worker.process.wait(20) == 78
    assert "GVISOR_POOL" in worker.log.read_text()


def ask(worker, operation):
    """What the worker answers to an operation that no dispatcher asks for."""
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(worker.state / "run" / "worker.sock"))
        client.sendall(json.dumps({"op": operation}).encode() + b"\n")
        with client.makefile("rb") as answer:
            return json.loads(answer.readline())[operation]

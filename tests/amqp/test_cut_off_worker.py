"""A worker that is cut off from the broker until it is given up, and returns."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from tests.support.marks import marked
from tests.support.own_service import UNREACHABLE
from tests.support.workers import until

LONG = {"timeout_ms": 60_000}
#: A worker is given up after ten seconds of silence.
GIVEN_UP_S = 40


def lost(cluster, run_id):
    run = cluster.service.ended(run_id, seconds=GIVEN_UP_S)
    return (run["status"], run["error"] and run["error"]["code"], run["stdout"]) == ("error", "worker_lost", "")


@pytest.mark.slow
def test_the_programs_of_a_worker_that_was_given_up_are_ended_when_it_returns(start_cluster, proxy, behind):
    cluster = start_cluster()
    service = cluster.service
    member = cluster.add(broker_url=behind.url, MAX_RUNS="8")
    cluster.wait()

    def wait():
        with suppress(*UNREACHABLE):
            service.post("/v1/runs", json=marked("waited", "sleep 50", limits=LONG))

    waiter = threading.Thread(target=wait)
    waiter.start()
    for name, seconds in {"background": 50, "ends-meanwhile": 5}.items():
        body = marked(name, f"echo x > outputs/f; sleep {seconds}", limits=LONG, background=True)
        assert service.post("/v1/runs", json=body).status == 202
    session = service.post("/v1/sessions", json={"language": "bash"}).body
    names = ("waited", "background", "ends-meanwhile")
    until(lambda: all(cluster.marks.names[name] for name in names))
    cluster.wait([cluster.add()])
    proxy.hold()
    ids = [cluster.marks.run_of[name] for name in names]
    assert [lost(cluster, run_id) for run_id in ids] == [True] * 3
    waiter.join(10)
    assert not waiter.is_alive()
    until(lambda: service.get(f"/v1/sessions/{session['id']}").body.get("end_reason") == "worker_lost", GIVEN_UP_S)
    assert member.worker.dispatcher.status()["queue"]["running"] == 2
    proxy.release()
    until(member.is_idle, 15)
    cluster.run("again")
    assert [lost(cluster, run_id) for run_id in ids] == [True] * 3
    cluster.check()
    until(lambda: not member.sessions(), 20)

"""Runs that wait, run in the background and are watched, while the service is full, stopped or killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time

import pytest

from dispatch.unix import UnixDispatcher
from tests.support.workers import pids, until

LONG = {"timeout_ms": 60_000}
#: One run at a time, and all others wait; most of these tests share such a service.
ONE_PLACE = {"MAX_RUNS": "1", "QUEUE_MAX": "1000", "QUEUE_WAIT_S": "120", "DRAIN_S": "1"}


def events_of(service, run_id):
    with service.events(f"/v1/runs/{run_id}/events") as events:
        return [event for _, event in events]


def occupy(service, seconds=50):
    """A run that holds the only place; its id."""
    run_id = service.submit("bash", f"echo begun; sleep {seconds}", limits=LONG)
    with service.events(f"/v1/runs/{run_id}/events") as events:
        while next(events)[1]["event"] != "stdout":
            pass
    return run_id


def cancel(service, run_id):
    return service.post(f"/v1/runs/{run_id}/cancel", data=b"").body


def test_five_hundred_waiting_runs_silence_nothing(shared_service, request):
    service = shared_service(**ONE_PLACE)
    holder = occupy(service)
    body = json.dumps({"language": "bash", "code": "true"})
    waiting = []
    for _ in range(500):
        connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
        headers = {"Authorization": f"Bearer {service.token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/runs", body, headers)
        waiting.append(connection)
    request.addfinalizer(lambda: [connection.close() for connection in waiting])
    with contextlib.closing(UnixDispatcher(service.worker_socket)) as worker:
        until(lambda: worker.status()["queue"]["waiting"] == 500, 60)
    last = service.submit("bash", "echo last")
    until(lambda: events_of_first(service, last)["position"] == 501, 20)
    began = time.monotonic()
    for _ in range(20):
        assert service.get("/v1/health", token=None).body["status"] == "ok"
        assert service.get(f"/v1/runs/{holder}").body["status"] == "running"
    # Not a measurement (bench/ has that): it is not the queue that answers are waiting for.
    assert (time.monotonic() - began) / 40 < 0.5
    assert cancel(service, last)["status"] == "cancelled"
    assert cancel(service, holder)["status"] == "cancelled"
    statuses = [_answer(connection) for connection in waiting]
    assert statuses == ["succeeded"] * 500


def _answer(connection):
    with contextlib.closing(connection):
        return json.loads(connection.getresponse().read()).get("status")


def events_of_first(service, run_id):
    """The data of the newest `info` event so far."""
    with service.events(f"/v1/runs/{run_id}/events") as events:
        return next(events)[1]["data"]


def test_a_waiting_run_is_told_its_position(shared_service):
    service = shared_service(**ONE_PLACE)
    holder = occupy(service)
    ahead = [service.submit("bash", "true") for _ in range(2)]
    until(lambda: events_of_first(service, ahead[1])["position"] == 2)
    body = {"language": "bash", "code": "echo mine", "stream": True}
    with service.events(json=body) as events:
        first = next(events)[1]
        assert (first["seq"], first["data"]["status"], first["data"]["position"]) == (1, "queued", 3)
        run = service.get(f"/v1/runs/{first['data']['id']}").body
        assert (run["status"], run["started_at"]) == ("queued", None)
        cancel(service, ahead[0])
        moved = next(events)[1]
        assert moved["event"] == "info", moved
        assert moved["data"]["position"] == 2
        cancel(service, holder)
        rest = [event for _, event in events]
    running = next(event for event in rest if event["event"] == "info" and event["data"]["status"] == "running")
    result = rest[-1]["data"]
    assert running["data"]["queue_ms"] == result["usage"]["queue_ms"] > 500
    assert result["stdout"] == "mine\n"


@pytest.mark.parametrize("how", ["background", "stream", "wait"])
def test_a_waiting_run_can_be_cancelled_or_left(shared_service, how):
    service = shared_service(**ONE_PLACE)
    holder = occupy(service)
    if how == "background":
        run_id = service.submit("bash", "echo never")
        run = cancel(service, run_id)
        assert [event["event"] for event in events_of(service, run_id)] == ["info", "result"]
    elif how == "stream":
        with service.events(json={"language": "bash", "code": "echo never", "stream": True}) as events:
            run_id = next(events)[1]["data"]["id"]
        run = service.ended(run_id, seconds=5)
    else:
        connection = http.client.HTTPConnection(service.host, service.port)
        body = json.dumps({"language": "bash", "code": "echo never"})
        headers = {"Authorization": f"Bearer {service.token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/runs", body, headers)
        time.sleep(0.5)
        connection.close()
        run = {"status": "cancelled", "stdout": "", "started_at": None}
    assert (run["status"], run["stdout"], run["started_at"]) == ("cancelled", "", None)
    cancel(service, holder)
    assert service.run("bash", "echo free")["stdout"] == "free\n"


def test_runs_that_wait_when_the_service_stops_are_said_to_be_interrupted(shared_service):
    service = shared_service(**ONE_PLACE)
    occupy(service)
    queued = service.submit("bash", "echo never")
    until(lambda: events_of_first(service, queued)["status"] == "queued")
    os.kill(pids(service, "worker")[0], signal.SIGTERM)
    run = service.ended(queued, seconds=30)
    assert (run["status"], run["error"]["code"], run["stdout"]) == ("error", "interrupted", "")


def test_a_background_run_that_never_got_its_place_says_so(shared_service):
    service = shared_service(MAX_RUNS="1", QUEUE_WAIT_S="0.5")
    holder = occupy(service)
    run_id = service.submit("bash", "echo never")
    run = service.ended(run_id, seconds=10)
    assert (run["status"], run["error"]["code"], run["started_at"]) == ("error", "queue_timeout", None)
    assert [event["event"] for event in events_of(service, run_id)] == ["info", "error"]
    events = service.stream("bash", "echo never")
    assert (events[-1]["event"], events[-1]["data"]["code"]) == ("error", "queue_timeout")
    waited = service.post("/v1/runs", json={"language": "bash", "code": "echo never"})
    assert (waited.status, waited.body["error"]["code"]) == (503, "overloaded")
    assert int(waited.headers["retry-after"]) >= 1
    cancel(service, holder)


def test_a_full_queue_refuses_every_kind_of_run(shared_service):
    service = shared_service(MAX_RUNS="1", QUEUE_MAX="1")
    holder = occupy(service)
    waiting = service.submit("bash", "echo second")
    until(lambda: service.get(f"/v1/runs/{waiting}").body["status"] == "queued")
    for kind in ({}, {"stream": True}, {"background": True}):
        reply = service.post("/v1/runs", json={"language": "bash", "code": "true", **kind})
        assert (reply.status, reply.body["error"]["code"]) == (503, "overloaded")
        assert int(reply.headers["retry-after"]) >= 1
    cancel(service, holder)
    assert service.ended(waiting)["stdout"] == "second\n"


def test_a_stopping_worker_finishes_what_runs_and_says_what_did_not(shared_service):
    service = shared_service(MAX_RUNS="2", DRAIN_S="3")
    short = service.submit("bash", "sleep 1; echo done")
    long = occupy(service)
    queued = service.submit("bash", "sleep 20; echo never", limits=LONG)
    pid = pids(service, "worker")[0]
    os.kill(pid, signal.SIGTERM)
    done, stopped, waited = (service.ended(run_id, seconds=30) for run_id in (short, long, queued))
    assert (done["status"], done["stdout"]) == ("succeeded", "done\n")
    assert (stopped["status"], stopped["stdout"], stopped["error"]) == ("killed", "begun\n", None)
    # It came to its place when the short run ended, and was still running when the time was up.
    assert waited["status"] == "killed"
    until(lambda: service.get("/readyz", token=None).status == 200, 30)
    assert pids(service, "worker")[0] != pid
    assert service.run("bash", "echo again")["stdout"] == "again\n"


def test_a_killed_workers_runs_all_end_and_none_runs_twice(shared_service):
    service = shared_service(MAX_RUNS="4", QUEUE_MAX="200", QUEUE_WAIT_S="60")
    code = "echo $RANDOM$RANDOM; sleep 0.3; echo done"
    background = [service.submit("bash", code) for _ in range(30)]
    answers = []

    def wait():
        reply = service.post("/v1/runs", json={"language": "bash", "code": code})
        answers.append((reply.status, reply.body))

    threads = [threading.Thread(target=wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: sum(service.get(f"/v1/runs/{r}").body["status"] == "succeeded" for r in background) >= 3)
    os.kill(pids(service, "worker")[0], signal.SIGKILL)
    for thread in threads:
        thread.join(90)
    ended = [service.ended(run_id, seconds=60) for run_id in background]
    assert {run["status"] for run in ended} == {"succeeded", "error"}
    for run in ended:
        if run["status"] == "succeeded":
            assert run["stdout"].endswith("done\n")
            assert run["stdout"].count("\n") == 2
        else:
            assert run["error"]["code"] == "worker_lost"
    assert len(answers) == 20
    for status, answer in answers:
        if status == 500:
            assert answer["error"]["code"] == "worker_lost"
            assert service.get(f"/v1/runs/{answer['run_id']}").body["status"] == "error"
        elif status == 503:
            assert answer["error"]["code"] == "worker_unavailable"
        else:
            assert answer["stdout"].endswith("done\n")
    before = [service.get(f"/v1/runs/{run_id}").body for run_id in background]
    until(lambda: service.get("/readyz", token=None).status == 200, 30)
    assert service.run("bash", "echo again")["stdout"] == "again\n"
    assert [service.get(f"/v1/runs/{run_id}").body for run_id in background] == before == ended

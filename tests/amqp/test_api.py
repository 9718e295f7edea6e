"""A real api process and real workers with a broker between them, over HTTP."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.apiprocess import Api
from tests.support.redisserver import Redis
from tests.support.workers import until


@pytest.fixture
def start_api(request, queue):
    """Start an api process at a broker: `start_api(broker)`; its service."""

    def start(server, **settings):
        api = Api({"AMQP_URL": server.url, "AMQP_QUEUE": queue, **settings})
        request.addfinalizer(api.end)
        return api.wait()

    return start


@pytest.fixture
def start_both(start_api, start_worker):
    """Start an api process, and a worker with the same storage."""

    def start(server, **settings):
        api = start_api(server, **settings)
        worker = start_worker(server, STORAGE_DIR=str(api.state / "storage"))
        until(lambda: api.service.get("/readyz", token=None).status == 200, 20)
        return api, worker

    return start


def test_what_a_client_sees_is_what_it_sees_on_one_machine(shared_broker, start_both):
    api, _ = start_both(shared_broker)
    service = api.service
    assert [row["id"] for row in service.get("/v1/languages", token=None).body["data"]] == ["bash"]

    run = service.run("bash", "echo hello; echo made > outputs/file")
    assert (run["status"], run["stdout"]) == ("succeeded", "hello\n")
    (artifact,) = run["artifacts"]
    assert service.get(artifact["url"].partition(f":{service.port}")[2]).raw == b"made\n"

    events = service.stream("bash", "for n in 1 2 3; do echo $n; sleep 0.05; done")
    assert "".join(event["data"] for event in events if event["event"] == "stdout") == "1\n2\n3\n"

    background = service.submit("bash", "sleep 0.5; echo later")
    assert service.ended(background)["stdout"] == "later\n"

    long = service.submit("bash", "sleep 60")
    until(lambda: service.get(f"/v1/runs/{long}").body["status"] == "running")
    assert service.post(f"/v1/runs/{long}/cancel", data=b"").body["status"] == "cancelled"

    refused = service.post("/v1/runs", json={"language": "bash", "code": "", "limits": {"timeout_ms": -1}})
    assert refused.status == 400


@pytest.mark.slow
def test_sessions_stay_where_they_are(shared_broker, start_api, start_worker):
    api = start_api(shared_broker)
    storage = str(api.state / "storage")
    workers = [start_worker(shared_broker, STORAGE_DIR=storage) for _ in range(2)]
    service = api.service
    until(lambda: service.get("/readyz", token=None).status == 200, 20)
    made = []
    for number in range(4):
        reply = service.post("/v1/sessions", json={"language": "bash"})
        assert reply.status == 201, api.said()
        path = f"/v1/sessions/{reply.body['id']}"
        made.append(path)
        written = service.request("PUT", f"{path}/files?path=n", f"{number}".encode())
        assert written.status in (200, 201, 204), written.body
    for number, path in enumerate(made):
        run = service.post(f"{path}/runs", json={"code": "cat /work/n"}).body
        assert (run["status"], run["stdout"]) == ("succeeded", str(number))
    workers[0].process.send_signal(signal.SIGKILL)
    ends = [outcome_of(service, path) for path in made]
    assert sorted(set(ends)) == ["succeeded", "worker_lost"]


def outcome_of(service, path):
    """Wait until a session runs a program, or has ended: the run's status, or the reason of the end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run = service.post(f"{path}/runs", json={"code": "cat /work/n"})
        if run.status == 200 and run.body["status"] == "succeeded":
            return "succeeded"
        session = service.get(path).body
        if session.get("status") == "ended":
            return session["end_reason"]
        time.sleep(0.5)
    raise AssertionError((run.status, run.body, session))


def test_a_worker_that_is_killed_ends_its_background_run_once(shared_broker, start_both):
    api, worker = start_both(shared_broker)
    service = api.service
    lost = service.submit("bash", "sleep 60")
    until(lambda: service.get(f"/v1/runs/{lost}").body["status"] == "running")
    worker.process.send_signal(signal.SIGKILL)
    ended = service.ended(lost)
    assert (ended["status"], ended["error"]["code"]) == ("error", "worker_lost")
    refused = service.post("/v1/runs", json={"language": "bash", "code": "true"})
    assert (refused.status, refused.body["error"]["code"]) == (503, "worker_unavailable")
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.slow
def test_runs_in_the_background_outlive_the_broker_and_the_api(broker, start_both):
    api, _ = start_both(broker)
    service = api.service
    runs = [service.submit("bash", f"sleep {seconds}; echo {seconds}") for seconds in (1, 8)]
    broker.kill()
    until(lambda: service.get("/v1/health", token=None).body["status"] == "degraded")
    refused = service.post("/v1/runs", json={"language": "bash", "code": "true"})
    assert (refused.status, refused.body["error"]["code"]) == (503, "worker_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    api.process.kill()
    api.process.wait()
    broker.start()
    api.again().wait()
    until(lambda: service.get("/v1/health", token=None).body["status"] == "ok", 20)
    assert [service.ended(run)["stdout"] for run in runs] == ["1\n", "8\n"]


@pytest.mark.slow
def test_several_processes_of_one_api_and_one_of_them_killed(shared_broker, start_both, request):
    redis = Redis()
    request.addfinalizer(redis.stop)
    api, _ = start_both(shared_broker, API_PROCESSES="2", RATELIMIT_URL=redis.url)
    service = api.service
    runs = [service.submit("bash", f"sleep 3; echo {number}") for number in range(4)]
    assert [service.run("bash", f"echo {number}")["stdout"] for number in range(8)] == [f"{n}\n" for n in range(8)]
    os.kill(api.workers()[0], signal.SIGKILL)
    until(lambda: len(api.workers()) == 2, 20)
    assert [service.ended(run)["stdout"] for run in runs] == [f"{number}\n" for number in range(4)]

"""Accepted runs against everything that can go away: api, worker, the database, the disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress

import pytest

from tests.support.own_service import UNREACHABLE, is_ready, new_state
from tests.support.postgres import Postgres
from tests.support.steady_clients import SteadyClient, accepted_by, every_run
from tests.support.workers import pids, until

LONG = {"timeout_ms": 60_000}
#: How long processes are killed under load; a minute in `make test-all`.
CHAOS_S = float(os.environ.get("RUNYARD_CHAOS_S", "15"))


def kill(service, what):
    for pid in pids(service, what):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for_output(service, run_id):
    with service.events(f"/v1/runs/{run_id}/events") as events:
        for _, event in events:
            if event["event"] == "stdout":
                return event["seq"]
    raise AssertionError("it said nothing")


def test_a_background_run_outlives_an_api_that_is_killed(shared_service):
    service = shared_service()
    run_id = service.submit("bash", "echo begun; sleep 3; echo done", limits=LONG)
    seq = wait_for_output(service, run_id)
    kill(service, "api")
    until(lambda: is_ready(service), 30)
    with service.events(f"/v1/runs/{run_id}/events?after={seq}") as events:
        rest = [event for _, event in events]
    assert [event["seq"] for event in rest] == list(range(seq + 1, seq + 1 + len(rest)))
    assert rest[-1]["data"]["stdout"] == "begun\ndone\n"
    run = service.get(f"/v1/runs/{run_id}").body
    assert (run["status"], run["stdout"]) == ("succeeded", "begun\ndone\n")


def test_what_ended_while_api_was_away_is_recorded_when_it_is_back(shared_service):
    service = shared_service()
    run_id = service.submit("bash", "echo begun; sleep 0.5; echo done", limits=LONG)
    wait_for_output(service, run_id)
    for pid in pids(service, "api"):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)
    kill(service, "api")
    until(lambda: is_ready(service), 30)
    assert service.ended(run_id)["stdout"] == "begun\ndone\n"


def test_a_waited_for_run_ends_with_the_api_that_waited(shared_service):
    service = shared_service()
    with service.events(
        json={"language": "bash", "code": "echo begun; sleep 50", "stream": True, "limits": LONG}
    ) as events:
        run_id = next(events)[1]["data"]["id"]
        wait_for_output(service, run_id)
        kill(service, "api")
    until(lambda: is_ready(service), 30)
    run = service.ended(run_id)
    assert (run["status"], run["error"]["code"], run["stdout"]) == ("error", "interrupted", "begun\n")
    assert not run["cancelled"]


def test_runs_that_neither_process_knows_any_more_are_interrupted(shared_service):
    service = shared_service()
    run_id = service.submit("bash", "echo begun; sleep 50", limits=LONG)
    wait_for_output(service, run_id)
    kill(service, "api")
    kill(service, "worker")
    until(lambda: is_ready(service), 30)
    run = service.ended(run_id)
    assert (run["status"], run["error"]["code"]) == ("error", "interrupted")


def test_cancel_survives_a_restart_of_api(shared_service):
    service = shared_service()
    run_id = service.submit("bash", "echo begun; sleep 50", limits=LONG)
    wait_for_output(service, run_id)
    kill(service, "api")
    until(lambda: is_ready(service), 30)
    assert service.post(f"/v1/runs/{run_id}/cancel", data=b"").body["status"] == "cancelled"


def test_idempotency_survives_a_restart_of_everything(shared_service):
    service = shared_service()
    key = {"Idempotency-Key": "order-17"}
    body = {"language": "bash", "code": "echo $RANDOM$RANDOM"}
    first = service.post("/v1/runs", json=body, headers=key).body
    kill(service, "api")
    kill(service, "worker")
    until(lambda: is_ready(service), 30)
    assert service.post("/v1/runs", json=body, headers=key).body == first
    assert service.post("/v1/runs", json=body | {"stdin": "x"}, headers=key).status == 422


def test_a_run_frees_its_key_when_api_dies_only_if_it_had_not_started(shared_service):
    service = shared_service(MAX_RUNS="1")
    begun = {"language": "bash", "code": "echo begun; sleep 50", "limits": LONG}
    queued = {"language": "bash", "code": "echo late"}
    asked = [
        (begun, {"Idempotency-Key": "begun"}),
        (queued, {"Idempotency-Key": "queued"}),
        (queued, {}),
        (queued | {"stream": True}, {"Idempotency-Key": "streamed"}),
    ]

    def ask(body, headers):
        with suppress(*UNREACHABLE):
            service.post("/v1/runs", json=body, headers=headers)

    clients = [threading.Thread(target=ask, args=each) for each in asked]
    for number, client in enumerate(clients, 1):
        client.start()
        until(lambda many=number: len(service.get("/v1/runs?order=asc").body["data"]) == many)
    runs = [run["id"] for run in service.get("/v1/runs?order=asc").body["data"]]
    wait_for_output(service, runs[0])
    until(lambda: all(service.get(f"/v1/runs/{run}").body["status"] == "queued" for run in runs[1:]))
    kill(service, "api")
    for client in clients:
        client.join(30)
    until(lambda: is_ready(service), 30)
    ended = [service.ended(run) for run in runs]
    assert [(run["status"], run["error"]["code"], run["cancelled"]) for run in ended] == [
        ("error", "interrupted", False)
    ] * 4
    assert [(run["stdout"], run["started_at"] is None) for run in ended] == [("begun\n", False)] + [("", True)] * 3
    again = service.post("/v1/runs", *asked[0])
    assert (again.status, again.body["error"]["code"], again.body["run_id"]) == (500, "interrupted", runs[0])
    for body, headers in asked[1:]:
        reply = service.post("/v1/runs", json=body | {"stream": False}, headers=headers)
        assert (reply.status, reply.body["stdout"]) == (200, "late\n")
        assert reply.body["id"] not in runs


def test_a_database_that_is_gone_for_ten_seconds(start_service, request):
    postgres = Postgres()
    request.addfinalizer(postgres.remove)
    service = start_service(DATABASE_URL=postgres.new_database())
    assert service.run("bash", "echo hi")["stdout"] == "hi\n"
    run_id = service.submit("bash", "echo begun; sleep 4; echo done", limits=LONG)
    wait_for_output(service, run_id)
    postgres.stop()
    gone_until = time.monotonic() + 10
    while time.monotonic() < gone_until:
        reply = service.post("/v1/runs", json={"language": "bash", "code": "echo hi"})
        assert (reply.status, reply.body["error"]["code"]) == (503, "records_unavailable")
        assert int(reply.headers["retry-after"]) >= 1
        assert service.get(f"/v1/runs/{run_id}").status == 503
        assert service.get("/readyz", token=None).body["checks"]["database"] == "fail"
        assert service.get("/v1/health", token=None).body["status"] == "degraded"
        time.sleep(0.2)
    postgres.start()
    until(lambda: is_ready(service), 20)
    run = service.ended(run_id)
    assert (run["status"], run["stdout"]) == ("succeeded", "begun\ndone\n")
    assert service.run("bash", "echo back")["stdout"] == "back\n"
    # What was answered 503 was not run in secret.
    assert len(service.get("/v1/runs").body["data"]) == 3


def test_a_full_disk(start_service, state, request):
    database = state / "db"
    database.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", database], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", database], check=True))
    service = start_service(DISK_RESERVE_MB="0")
    kept = service.run("bash", "echo kept")
    filler = database / "filler"
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(os.urandom(4096))
            file.flush()
    codes = set()
    for _ in range(200):
        reply = service.post("/v1/runs", json={"language": "bash", "code": "head -c 20000 /dev/urandom | base64"})
        if reply.status != 200:
            assert (reply.status, reply.body["error"]["code"]) == (503, "records_unavailable")
            assert "retry-after" in reply.headers
            break
        codes.add(reply.status)
    else:
        raise AssertionError("the disk did not fill")
    assert service.get(f"/v1/runs/{kept['id']}").body == kept
    filler.unlink()
    until(lambda: service.post("/v1/runs", json={"language": "bash", "code": "echo back"}).status == 200, 20)
    runs = service.get("/v1/runs?limit=100").body["data"]
    until(lambda: all(run["status"] == "succeeded" for run in service.get("/v1/runs?limit=100").body["data"]), 20)
    assert len(runs) == len({run["id"] for run in runs})


@pytest.mark.timeout(300)
def test_kills_under_load(start_service):
    service = start_service(MAX_RUNS="8", QUEUE_MAX="100")
    stop = threading.Event()
    clients = [SteadyClient(service, number, stop) for number in range(8)]
    chance = random.Random(7)
    ends = time.monotonic() + CHAOS_S
    kills = 0
    while time.monotonic() < ends:
        time.sleep(chance.uniform(0.5, 2.5))
        kill(service, chance.choice(["api", "worker"]))
        kills += 1
    until(lambda: is_ready(service), 60)
    time.sleep(1)
    stop.set()
    for client in clients:
        client.end()
    accepted = accepted_by(clients)
    assert len(accepted) > 20
    ended = {name: service.ended(run_id, seconds=60) for name, run_id in accepted.items()}
    for name, run in ended.items():
        assert run["status"] in ("succeeded", "cancelled", "error"), run
        if run["status"] == "succeeded":
            assert run["stdout"] == f"{name}\n"
    assert sum(run["status"] == "succeeded" for run in ended.values()) > 10
    runs = every_run(service)
    assert len(runs) == len({run["id"] for run in runs})
    assert {run["status"] for run in runs} <= {"succeeded", "cancelled", "error"}
    assert set(accepted.values()) <= {run["id"] for run in runs}
    # A key names one run, and a program that was run printed its own name: none ran as two runs.
    names = [run["stdout"] for run in runs if run["status"] == "succeeded"]
    assert len(names) == len(set(names))
    assert service.run("bash", "echo calm")["stdout"] == "calm\n"


WORKER_POINTS = ["leased", "created", "started", "exited", "collecting", "resulted"]


@pytest.fixture(scope="module")
def die_at():
    """The file that says where the processes of the shared service die: `point:/path`, empty for nowhere."""
    folder = new_state()
    path = folder / "die-at"
    path.touch()
    yield path
    shutil.rmtree(folder)


@pytest.fixture
def service_that_dies(shared_service, die_at):
    """A service whose processes die at the point that `die_at` names."""
    yield shared_service(RUNYARD_DIE_AT=f"file:{die_at}")
    die_at.write_text("")


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_worker_that_dies_at_a_point_of_a_runs_life_loses_that_run_and_says_so(service_that_dies, die_at, point):
    service = service_that_dies
    died = service.state / "run" / f"died-{point}"
    die_at.write_text(f"{point}:{died}")
    code = "echo begun; echo x > outputs/f; sleep 0.3"
    reply = service.post("/v1/runs", json={"language": "bash", "code": code, "background": True})
    # It may die before it has said that it took the run: then the answer says so, and names the run.
    assert reply.status == 202 or (reply.status, reply.body["error"]["code"]) == (500, "worker_lost")
    run_id = reply.body["id"] if reply.status == 202 else reply.body["run_id"]
    run = service.ended(run_id, seconds=40)
    assert (run["status"], run["error"]["code"], run["artifacts"]) == ("error", "worker_lost", [])
    assert died.exists()
    until(lambda: is_ready(service), 40)
    with service.events(f"/v1/runs/{run_id}/events") as events:
        assert [event["event"] for _, event in events] == ["error"]
    assert service.run("bash", "echo again")["stdout"] == "again\n"
    assert service.get(f"/v1/runs/{run_id}").body == run


@pytest.mark.parametrize(
    ("point", "status", "code"),
    [("accepted", "error", "interrupted"), ("ended", "succeeded", None), ("recorded", "succeeded", None)],
)
def test_an_api_that_dies_at_a_point_of_a_runs_life_leaves_it_an_end(
    service_that_dies, die_at, point, status, code
):
    service = service_that_dies
    died = service.state / "api" / f"died-{point}"
    die_at.write_text(f"{point}:{died}")
    with suppress(*UNREACHABLE, AssertionError):  # the answer dies with it
        service.submit("bash", "echo done")
    until(died.exists, 20)
    until(lambda: is_ready(service), 40)
    (run,) = service.get("/v1/runs").body["data"]
    run = service.ended(run["id"])
    assert (run["status"], run["error"] and run["error"]["code"]) == (status, code)
    assert run["stdout"] == ("done\n" if status == "succeeded" else "")
    assert service.run("bash", "echo again")["stdout"] == "again\n"
    assert len(service.get("/v1/runs").body["data"]) == 2

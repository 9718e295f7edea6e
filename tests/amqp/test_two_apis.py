"""Two api services on one database: each answers for all runs and sessions, and takes over those of one that died."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine, text

from config.clock import now_ms
from config.ids import new_id
from records import open_records
from records.runs import NewRun, RunFilter
from records.sql.database import parse_url
from tests.amqp.conftest import UIDS
from tests.support.apiprocess import ADMIN
from tests.support.two_apis import LEASE_S, Machines, ready, refused
from tests.support.websocket import WebSocket
from tests.support.workers import until

LONG = {"timeout_ms": 60_000}
JSON = {"Content-Type": "application/json"}
BASH_FUNCTION = json.dumps({"language": "bash", "code": "handler() { echo 1; }"}).encode()
LIVE_DOCUMENT = (
    b'{"status":"running","limits":{"memory_mb":256},"metadata":{},"code_sha256":"0","created_at":"2026-01-01"}'
)
#: The accounts of a worker beside the two of this module.
MORE_UIDS = 0x7E00_0000
#: In which runs of a killed api are recorded, on a slow machine.
TAKEN_OVER_S = 60


@pytest.fixture(scope="module")
def machines(service, shared_broker, postgres):
    made = Machines(shared_broker, postgres, "jobs_of_two")
    try:
        made.api(API_PROCESSES="2")
        made.api()
        for uid_base in UIDS:
            made.worker(service.images, uid_base)
        for worker in made.workers:
            worker.wait_until_filled(60)
        yield made
    finally:
        made.remove()


@pytest.fixture
def pair(machines):
    """The two apis, both up; one that a test before has killed is started again."""
    first, second = machines.apis[:2]
    for api in (first, second):
        if api.process.poll() is not None:
            api.again()
    ready(first, second)
    return first, second


def path_of(url):
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def running(service, run_id):
    until(lambda: service.get(f"/v1/runs/{run_id}").body["status"] == "running")


def counted(service):
    """The runs and sessions of the key that were counted."""
    found = service.get("/v1/usage").body
    return found["runs"], found["sessions"]


def test_a_run_of_one_is_read_followed_fed_and_cancelled_at_the_other(pair):
    one, other = (api.service for api in pair)
    run = one.run("bash", "echo hello; echo made > outputs/file")
    assert run["stdout"] == "hello\n"
    found = other.get(f"/v1/runs/{run['id']}").body
    assert (found["status"], found["stdout"]) == ("succeeded", "hello\n")
    (artifact,) = found["artifacts"]
    assert one.get(path_of(artifact["url"]), token=None).raw == b"made\n"
    assert other.get(path_of(run["artifacts"][0]["url"]), token=None).raw == b"made\n"

    code = "read line; echo got $line; trap 'echo told' USR1; while sleep 0.1; do :; done"
    background = one.submit("bash", code, stdin_open=True, limits=LONG)
    running(other, background)
    path = f"/v1/runs/{background}"
    assert other.post(f"{path}/stdin", data=b"input\n").status == 200
    with other.events(f"{path}/events") as events:
        printed = (event for _, event in events if event["event"] == "stdout")
        first = next(printed)
        assert first["data"] == "got input\n"
        assert other.post(f"{path}/signal", json={"signal": "SIGUSR1"}).status == 200
        assert next(printed)["data"] == "told\n"
        assert other.post(f"{path}/cancel", data=b"").body["status"] == "cancelled"
        assert [event["data"]["status"] for _, event in events if event["event"] == "result"] == ["cancelled"]
    assert one.get(path).body["status"] == "cancelled"
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(first["seq"])}
    replayed = one.get(f"{path}/events", headers).raw.decode()
    assert [line.removeprefix("event: ") for line in replayed.splitlines() if line.startswith("event: ")] == [
        "stdout",
        "result",
    ]


def test_a_stream_of_one_is_cancelled_at_the_other(pair):
    one, other = (api.service for api in pair)
    body = {"language": "bash", "code": "echo begun; sleep 50", "stream": True, "limits": LONG}
    with one.events(json=body) as events:
        next(event for _, event in events if event["event"] == "stdout")
        (run,) = runs_of(other, "running")
        assert other.post(f"/v1/runs/{run['id']}/cancel", data=b"").body["status"] == "cancelled"
        assert [event["data"]["status"] for _, event in events if event["event"] == "result"] == ["cancelled"]


def test_of_requests_with_one_idempotency_key_at_both_one_runs(pair):
    services = [api.service for api in pair]
    body = {"language": "bash", "code": "echo $RANDOM$RANDOM; sleep 0.3"}
    headers = {"Idempotency-Key": "of-both"}
    answers = []

    def ask(service):
        answers.append(service.post("/v1/runs", json=body, headers=headers))

    threads = [threading.Thread(target=ask, args=(service,)) for service in services * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200, 409}
    runs = {answer.body["id"] for answer in answers if answer.status == 200}
    runs |= {answer.body["run_id"] for answer in answers if answer.status == 409}
    assert len(runs) == 1
    again = [service.post("/v1/runs", json=body, headers=headers).body for service in services]
    assert {answer["id"] for answer in again} == runs
    assert len({answer["stdout"] for answer in again}) == 1


def test_a_function_and_a_key_of_one_are_those_of_the_other(pair):
    one, other = (api.service for api in pair)
    deployed = one.request("PUT", "/v1/functions/both", BASH_FUNCTION, JSON)
    assert deployed.status in (200, 201), deployed.body
    called = other.post("/v1/functions/both/runs", json={"input": {"a": 1}})
    assert called.status == 200, called.body
    assert called.body["status"] == "succeeded", called.body

    made = one.post("/v1/keys", json={"label": "of-one"}, token=None)
    secret = made.body["key"]
    assert other.get("/v1/runs", token=secret).status == 200
    assert one.request("DELETE", f"/v1/admin/keys/{made.body['id']}", token=ADMIN).status == 200
    until(lambda: other.get("/v1/runs", token=secret).status == 401)


def test_a_session_of_one_is_used_and_ended_at_the_other(pair):
    one, other = (api.service for api in pair)
    session = one.post("/v1/sessions", json={"language": "bash", "name": "of-both"}).body
    path = f"/v1/sessions/{session['id']}"
    assert other.post("/v1/sessions", json={"language": "bash", "name": "of-both"}).body["id"] == session["id"]
    assert other.request("PUT", f"{path}/files?path=n", b"seven").status in (200, 201, 204)
    assert one.get(f"{path}/files?path=n").raw == b"seven"
    assert other.post(f"{path}/runs", json={"code": "cat /work/n"}).body["stdout"] == "seven"
    process = one.post(f"{path}/processes", json={"command": "cat", "pty": {"cols": 80, "rows": 24}}).body["id"]
    with WebSocket(other, f"{path}/processes/{process}/attach", token=other.token) as terminal:
        terminal.send(b"typed\n")
        terminal.expect(b"typed")
    assert other.request("DELETE", path).status in (200, 204)
    assert one.get(path).body["status"] == "ended"
    assert one.post(f"{path}/runs", json={"code": "true"}).status == 410


def test_what_a_killed_api_has_begun_is_taken_over_and_recorded_once(pair):
    first, second = pair
    one, other = first.service, second.service
    before = counted(other)
    session = one.post("/v1/sessions", json={"language": "bash"}).body["id"]
    ended = one.submit("bash", "sleep 0.5; echo soon")
    goes_on = one.submit("bash", f"sleep {2 * LEASE_S + 2}; echo later", limits=LONG)
    running(other, goes_on)
    first.kill()
    found = {run: other.ended(run, seconds=TAKEN_OVER_S) for run in (ended, goes_on)}
    assert [run["stdout"] for run in found.values()] == ["soon\n", "later\n"]

    path = f"/v1/sessions/{session}"
    assert other.post(f"{path}/runs", json={"code": "echo lives"}).body["stdout"] == "lives\n"
    assert other.request("DELETE", path).status in (200, 204)
    assert other.get(path).body["end_reason"] == "deleted"

    ready(first.again())
    assert {run: one.ended(run) for run in found} == found
    assert [new - old for old, new in zip(before, counted(one), strict=True)] == [3, 1]


@pytest.mark.slow
def test_runs_that_a_killed_api_waited_for_or_did_not_send_end_interrupted(machines, pair):
    first, second = pair
    body = {"language": "bash", "code": "echo begun; sleep 50", "stream": True, "limits": LONG}
    with suppress(OSError), first.service.events(json=body) as events:
        next(event for _, event in events if event["event"] == "stdout")
        first.kill()
    (waited_for,) = [run["id"] for run in runs_of(second.service, "running")]
    for run_id in (waited_for, accepted_only(machines, first)):
        run = second.service.ended(run_id, seconds=TAKEN_OVER_S)
        assert (run["status"], run["error"]["code"]) == ("error", "interrupted")


@pytest.mark.slow
def test_an_api_that_stood_still_for_longer_than_its_lease_records_nothing_twice(pair):
    first, second = pair
    one, other = first.service, second.service
    before = counted(other)
    runs = [one.submit("bash", f"sleep {seconds}; echo {seconds}", limits=LONG) for seconds in (1, 4 * LEASE_S)]
    answers = []
    asked = {"language": "bash", "code": "sleep 2; echo answered", "limits": LONG}
    client = threading.Thread(target=lambda: answers.append(one.post("/v1/runs", json=asked)))
    client.start()
    until(lambda: len(runs_of(other, "running")) == 3)
    (waited_for,) = [run["id"] for run in runs_of(other, "running") if run["id"] not in runs]
    processes = (first.process.pid, *first.workers())
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    assert other.ended(runs[0], seconds=TAKEN_OVER_S)["stdout"] == "1\n"
    for pid in processes:
        os.kill(pid, signal.SIGCONT)
    assert one.ended(runs[1], seconds=TAKEN_OVER_S)["stdout"] == f"{4 * LEASE_S}\n"
    client.join(TAKEN_OVER_S)
    assert answers[0].body["id"] == waited_for
    assert answers[0].body["stdout"] == other.ended(waited_for)["stdout"] == "answered\n"
    until(lambda: one.run("bash", "echo again")["stdout"] == "again\n")
    assert counted(other)[0] - before[0] == 4


@pytest.mark.slow
def test_a_session_of_a_killed_api_that_ends_by_itself_is_recorded_by_the_other(machines, pair):
    first, second = pair
    one, other = first.service, second.service
    before = counted(other)
    session = one.post("/v1/sessions", json={"language": "bash", "max_age_s": 10}).body["id"]
    first.kill()
    path = f"/v1/sessions/{session}"
    until(lambda: has_ended(machines, session), TAKEN_OVER_S)  # nobody asks the other
    found = other.get(path).body
    assert (found["status"], found["end_reason"]) == ("ended", "age"), found
    ready(first.again())
    assert one.get(path).body == found
    assert counted(one)[1] - before[1] == 1


@pytest.mark.slow
def test_an_api_and_the_broker_killed_together_lose_no_result(service, broker, postgres, request):
    machines = Machines(broker, postgres, "jobs_and_an_outage")
    request.addfinalizer(machines.remove)
    first, second = machines.api(), machines.api()
    machines.worker(service.images, MORE_UIDS).wait_until_filled(60)
    ready(first, second)
    seconds = (1, 4 * LEASE_S)
    runs = [first.service.submit("bash", f"sleep {each}; echo {each}", limits=LONG) for each in seconds]
    for run in runs:
        running(second.service, run)
    broker.kill()
    first.kill()
    until(lambda: all(owner_of(machines, run) == second.instance_id for run in runs), TAKEN_OVER_S)
    assert {second.service.get(f"/v1/runs/{run}").body["status"] for run in runs} == {"running"}
    broker.start()
    ended = [second.service.ended(run, seconds=TAKEN_OVER_S) for run in runs]
    assert [run["stdout"] for run in ended] == [f"{each}\n" for each in seconds]
    assert counted(second.service)[0] == len(runs)


def owner_of(machines, run_id):
    """The instance that has a run, as the database has it."""
    engine = create_engine(parse_url(machines.database))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT instance FROM runs WHERE id = :id"), {"id": run_id}).scalar_one()
    engine.dispose()
    return found


def has_ended(machines, session_id):
    records = open_records(machines.database)
    try:
        return records.sessions.find(session_id).ended
    finally:
        records.close()


def runs_of(service, status):
    return service.get(f"/v1/runs?status={status}").body["data"]


def accepted_only(machines, api):
    """A run that an api has accepted, and that it was killed before it sent it to a worker; its id."""
    records = open_records(machines.database, instance=api.instance_id)
    try:
        owner = records.runs.search(RunFilter(), limit=1).items[0].owner
        run_id = new_id("run")
        records.runs.accept(NewRun(run_id, owner, "bash", now_ms(), LIVE_DOCUMENT, b"{}", "running"))
    finally:
        records.close()
    return run_id


def test_one_that_cannot_share_is_refused_with_a_reason(machines, pair):
    first, _ = pair
    lone = dict.fromkeys(("AMQP_URL", "RATELIMIT_URL"), "")
    started = {
        "does not share its workers": machines.api(**lone),
        "AMQP_QUEUE=jobs_of_others": machines.api(AMQP_QUEUE="jobs_of_others"),
        "SIGNING_KEY is another one": machines.api(SIGNING_KEY="o" * 48),
    }
    for reason, api in started.items():
        assert reason in refused(api), api.said()
    assert "AMQP_QUEUE=jobs_of_two" in started["AMQP_QUEUE=jobs_of_others"].said()
    assert first.service.get("/healthz", token=None).status == 200

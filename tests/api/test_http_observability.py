"""What the running service says of itself: its log, and its numbers."""

from __future__ import annotations

import json
import socket
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

REFUSED = 150


@pytest.fixture
def log(service):
    """The lines that the service writes from now on."""
    path = service.state / "log/service.log"
    start = path.stat().st_size

    def lines():
        with path.open("rb") as file:
            file.seek(start)
            return [json.loads(line) for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]

    return lines


def until(condition, seconds=10.0):
    """Wait for what the service does after it has answered."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def samples(service):
    reply = service.get("/metrics", token=None)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(reply.raw.decode()):
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.values())] = sample.value
    return found


def grown(service, before, *series):
    after = samples(service)
    return [after.get(name, 0) - before.get(name, 0) for name in series]


def test_every_line_of_the_log_is_an_object_of_json(service):
    service.run(code="import sys; print('{\\n'); sys.stderr.write('\\x00\\u2028\\n')")
    service.get("/v1/runs/%0a%7b%22level%22:1%7d")
    data = (service.state / "log/service.log").read_bytes()
    assert data.endswith(b"\n")
    for line in data.decode("ascii").splitlines():
        assert {"at", "level", "component", "message"} <= set(json.loads(line)), line


def test_one_id_leads_from_the_request_through_the_worker(service, log):
    reply = service.post(
        "/v1/runs", json={"language": "python", "code": "print(1)"}, headers={"x-request-id": "mine-42"}
    )
    assert reply.headers["x-request-id"] == "mine-42"
    lines = until(lambda: len(found := [x for x in log() if x.get("request_id") == "mine-42"]) == 3 and found)
    assert {(line["component"], line["message"]) for line in lines} == {
        ("api", "run.accepted"),
        ("worker", "run ended"),
        ("api", "request"),
    }
    assert {line["run_id"] for line in lines} == {reply.body["id"]}
    (request,) = [line for line in lines if line["message"] == "request"]
    assert (request["method"], request["route"], request["status"]) == ("POST", "/v1/runs", 200)
    assert (request["label"], request["remote"]) == ("dev", "127.0.0.1")
    assert request["bytes"] == len(reply.raw)
    assert 0 < request["duration_ms"] < 60_000


def test_a_run_in_the_background_keeps_the_id_of_its_request(service, log):
    run_id = service.submit(code="print(1)")
    lines = until(lambda: len(found := [x for x in log() if x.get("run_id") == run_id]) >= 3 and found)
    assert len({line["request_id"] for line in lines}) == 1
    assert ("worker", "run ended") in {(line["component"], line["message"]) for line in lines}


def test_a_stream_is_written_down_when_it_has_ended_with_all_its_bytes(service, log):
    began = time.monotonic()
    service.stream(code="import time; print('x' * 5000); time.sleep(0.3)")
    took_ms = (time.monotonic() - began) * 1000
    (line,) = until(lambda: [x for x in log() if x["message"] == "request" and x["bytes"] > 5000])
    # The server may read its clock a little after the client has the last byte.
    assert 300 <= line["duration_ms"] <= took_ms + 1000
    assert line["run_id"].startswith("run_")


def test_what_is_done_to_runs_is_written_down(service, log):
    def told(line):
        return "event" in line or line["message"] == "run ended"

    run_id = service.submit(code="import time; time.sleep(60)")
    service.post(f"/v1/runs/{run_id}/cancel", json={})
    service.request("DELETE", f"/v1/runs/{run_id}")
    # The run that an earlier test left may still be ending.
    own = until(lambda: len(found := [x for x in log() if x.get("run_id") == run_id and told(x)]) == 4 and found)
    events = [line for line in own if "event" in line]
    assert [line["event"] for line in events] == ["run.accepted", "run.cancelled", "run.deleted"]
    assert len({line["key"] for line in events}) == 1
    (ended,) = [line for line in own if line["message"] == "run ended"]
    assert ended["status"] == "cancelled"


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("exit 0", ("succeeded", 0, None)),
        ("exit 3", ("failed", 3, None)),
        ("kill -SEGV $$", ("failed", None, "SIGSEGV")),
    ],
)
def test_the_line_of_an_ended_run_has_status_exit_code_and_signal(service, log, code, end):
    run = service.run("bash", code)
    assert (run["status"], run["exit_code"], run["signal"]) == end
    lines = until(lambda: [x for x in log() if x.get("run_id") == run["id"] and x["message"] == "run ended"])
    assert [(line["status"], line["exit_code"], line["signal"]) for line in lines] == [end]


def test_the_migrations_of_the_database_are_not_in_the_log(service):
    text = (service.state / "log/service.log").read_text()
    assert '"component":"api"' in text
    assert '"logger":"alembic' not in text


def test_no_token_comes_into_the_log(service, log):
    for token in (service.token, "a-wrong-token-of-somebodys"):
        service.get(f"/v1/runs?token={token}", headers={"x-request-id": token, "User-Agent": token}, token=token)
        service.run(code=f"print('{service.token}')", metadata={"token": service.token})
    service.get("/v1/files/file_x/content?token=signed.secret-secret", token=None)
    until(lambda: [x for x in log() if x.get("status") == 403])
    text = "\n".join(json.dumps(line) for line in log() if line["message"] != "request")
    text += "\n".join(json.dumps({**line, "request_id": ""}) for line in log() if line["message"] == "request")
    for secret in (service.token, "secret-secret"):
        assert secret not in text


def test_a_request_that_cannot_be_read_is_written_down_with_the_id_of_its_answer(service, log):
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        connection.sendall(b"NOT HTTP AT ALL token=secret-secret\r\n\r\n")
        answer = connection.recv(65536).decode()
    request_id = answer.split("x-request-id: ")[1].split("\r\n")[0]
    (line,) = until(lambda: [x for x in log() if x.get("request_id") == request_id])
    assert (line["status"], line["route"], line["remote"]) == (400, None, "127.0.0.1")
    assert "secret-secret" not in json.dumps(log())


def test_a_flood_of_wrong_tokens_is_counted_and_not_written(service, log):
    refused = ("runyard_authentication_refused_total", "invalid_token")
    before = samples(service)
    for _ in range(REFUSED):
        service.get("/v1/runs", token="wrong-wrong-wrong")
    assert grown(service, before, refused) == [REFUSED]
    written = [line for line in log() if line.get("event") == "authentication.refused"]
    assert 0 < len(written) < REFUSED


def test_the_numbers_are_those_of_what_was_done(service):
    series = [
        ("runyard_runs_total", "python", "succeeded"),
        ("runyard_runs_total", "bash", "failed"),
        ("runyard_runs_total", "python", "timeout"),
        ("runyard_run_duration_seconds_count", "python"),
        ("runyard_http_requests_total", "/v1/runs", "200", "POST"),
        ("runyard_http_requests_total", "/v1/runs", "400", "POST"),
        ("runyard_http_requests_total", "405", "none", "other"),
        ("runyard_http_request_duration_seconds_count", "/v1/runs", "POST"),
    ]
    before = samples(service)
    for _ in range(3):
        service.run(code="print(1)")
    service.run("bash", "exit 3")
    service.run(code="while True: pass", limits={"timeout_ms": 100})
    service.post("/v1/runs", json={"language": "python"})
    service.request("BREW", "/v1/runs")
    wanted = [3, 1, 1, 4, 5, 1, 1, 6]
    until(lambda: grown(service, before, *series) == wanted)


def test_sandboxes_and_places_are_counted(service):
    before = samples(service)
    service.run(code="print(1)")
    taken = [
        ("runyard_sandboxes_taken_total", *sorted((source, "python"))) for source in ("template", "pool", "cold")
    ]
    counted = [("runyard_queue_wait_seconds_count",), ("runyard_sandbox_start_seconds_count", "python")]
    until(lambda: sum(grown(service, before, *taken)) == 1)
    until(lambda: grown(service, before, *counted)[0] == 1)
    until(lambda: grown(service, before, *counted)[1] >= 1, 30)  # another is made in its place
    found = samples(service)
    assert found["runyard_worker_up",] == 1
    assert found["runyard_pool_size", "python"] >= 1
    assert found["runyard_worker_process_resident_memory_bytes",] > 1e6


def test_a_run_in_progress_is_seen(service):
    run_id = service.submit(code="import time; time.sleep(60)", limits={"memory_mb": 100})
    until(lambda: samples(service)["runyard_runs_in_progress",] >= 1)
    assert samples(service)["runyard_memory_limits_bytes",] >= 100 * 1024 * 1024
    service.post(f"/v1/runs/{run_id}/cancel", json={})


def test_no_key_and_nothing_of_a_users_is_in_the_numbers(service):
    run = service.run(code="print('needle')", metadata={"user": "needle"})
    service.get(f"/v1/runs/{run['id']}")
    service.get("/v1/needle")
    service.get("/v1/runs/needle")
    page = service.get("/metrics", token=None).raw.decode()
    for hidden in ("needle", service.token, "key_", "dev_", run["id"]):
        assert hidden not in page

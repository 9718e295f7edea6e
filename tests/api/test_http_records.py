"""What the service remembers of runs: lists, requests, never twice, forgotten; on the real service."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import uuid
from urllib.parse import urlsplit

import pytest


def listed(service, query="", **more):
    reply = service.get(f"/v1/runs{query}", **more)
    assert reply.status == 200, reply.body
    return reply.body


def test_runs_of_every_kind_are_listed_newest_first(service):
    waited = service.run("bash", "echo 1")["id"]
    background = service.submit("bash", "echo 2")
    service.ended(background)
    streamed = service.stream("bash", "echo 3")[-1]["data"]["id"]
    page = listed(service, "?limit=3")
    assert [run["id"] for run in page["data"]] == [streamed, background, waited]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (streamed, waited, True)
    assert page["data"][2] == service.get(f"/v1/runs/{waited}").body


def test_pages_neither_repeat_nor_skip_while_runs_are_added(service):
    made = [service.run("bash", f"echo {number}")["id"] for number in range(6)]
    seen, after = [], ""
    for _ in range(3):
        page = listed(service, f"?limit=2{after}")
        seen += [run["id"] for run in page["data"]]
        after = f"&after={page['last_id']}"
        service.run("bash", "true")
    assert seen == made[::-1]


def test_filters(service):
    failed = service.run("bash", "exit 3")["id"]
    page = listed(service, "?status=failed&language=sh&limit=1")
    assert [run["id"] for run in page["data"]] == [failed]
    assert all(run["language"] == "python" for run in listed(service, "?language=py")["data"])


def test_live_runs_are_listed_as_what_they_are(service):
    run_id = service.submit("bash", "echo begun; sleep 50", limits={"timeout_ms": 60_000})
    with service.events(f"/v1/runs/{run_id}/events") as events:
        while next(events)[1]["event"] != "stdout":
            pass
    assert run_id in [run["id"] for run in listed(service, "?status=running")["data"]]
    service.post(f"/v1/runs/{run_id}/cancel", data=b"")
    assert run_id in [run["id"] for run in listed(service, "?status=cancelled")["data"]]


def test_anothers_runs_are_not_listed(service):
    mine = service.run("bash", "true")["id"]
    assert mine not in [run["id"] for run in listed(service, "?limit=100", token=service.other_token)["data"]]
    assert service.get(f"/v1/runs?after={mine}", token=service.other_token).status == 400


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=1e1", "?order=x", "?status=x", "?after=x", "?x=1", "?language=x"]
)
def test_bad_queries(service, query):
    reply = service.get(f"/v1/runs{query}")
    assert (reply.status, reply.body["error"]["type"]) == (400, "invalid_request_error")


def test_the_request_that_made_a_run(service):
    request = {"language": "sh", "code": "echo 'é\n'", "metadata": {"user": "42"}, "limits": {"timeout_ms": 5000}}
    run = service.post("/v1/runs", json=request).body
    assert service.get(f"/v1/runs/{run['id']}?include=request").body == run | {"request": request}


def test_a_run_is_forgotten(service):
    run_id = service.run("bash", "true")["id"]
    gone = service.request("DELETE", f"/v1/runs/{run_id}")
    assert (gone.status, gone.body) == (200, {"id": run_id, "object": "run", "deleted": True})
    assert service.get(f"/v1/runs/{run_id}").status == 404
    assert service.get(f"/v1/runs/{run_id}/events").status == 404
    assert run_id not in [run["id"] for run in listed(service, "?limit=100")["data"]]


def test_a_live_run_is_not_forgotten(service):
    run_id = service.submit("bash", "sleep 50", limits={"timeout_ms": 60_000})
    assert service.request("DELETE", f"/v1/runs/{run_id}").body["error"]["code"] == "run_not_ended"
    service.post(f"/v1/runs/{run_id}/cancel", data=b"")
    assert service.request("DELETE", f"/v1/runs/{run_id}").status == 200


def test_twenty_parallel_duplicates_make_one_run(service):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"language": "bash", "code": "echo $RANDOM$RANDOM; sleep 0.5"}
    replies = []
    threads = [
        threading.Thread(target=lambda: replies.append(service.post("/v1/runs", json=body, headers=key)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    made = {reply.body["id"] for reply in replies if reply.status == 200}
    conflicts = {reply.body["run_id"] for reply in replies if reply.status == 409}
    assert sorted({reply.status for reply in replies}) in ([200, 409], [200])
    assert len(made) == 1
    assert conflicts <= made
    again = service.post("/v1/runs", json=body, headers=key)
    assert again.body == next(reply.body for reply in replies if reply.status == 200)
    other = service.post("/v1/runs", json=body | {"stdin": "x"}, headers=key)
    assert (other.status, other.body["error"]["code"]) == (422, "idempotency_mismatch")


def test_a_client_that_lost_its_answer_gets_the_same_run(service):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"language": "bash", "code": "echo $RANDOM$RANDOM", "background": True}
    connection = http.client.HTTPConnection(service.host, service.port)
    headers = {"Authorization": f"Bearer {service.token}", "Content-Type": "application/json", **key}
    connection.request("POST", "/v1/runs", json.dumps(body), headers)
    connection.getresponse().read()
    connection.close()
    first = listed(service, "?limit=1")["data"][0]["id"]
    service.ended(first)
    again = service.post("/v1/runs", json=body, headers=key)
    assert (again.status, again.body["id"]) == (202, first)


def test_long_outputs_come_back_whole(service):
    code = "import os; b = os.urandom(1); os.write(1, b * 8_000_000); os.write(2, 'é€'.encode() * 200_000)"
    code += "; open('outputs/x', 'w').write('x')"
    body = {"language": "python", "code": code, "limits": {"max_output_bytes": 8 << 20}}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    reply = service.post("/v1/runs", json=body, headers=key)
    run, path = unsigned(reply.body), f"/v1/runs/{reply.body['id']}"
    assert len(run["stderr"]) == 400_000
    told = service.get(path)
    assert unsigned(told.body) == run
    assert told.headers["transfer-encoding"] == "chunked"
    (artifact,) = told.body["artifacts"]
    address = urlsplit(artifact["url"])
    assert service.get(f"{address.path}?{address.query}", token=None).raw == b"x"
    asked = service.get(f"{path}?include=request").body
    assert asked.pop("request") == body
    assert unsigned(asked) == run
    assert unsigned(service.post("/v1/runs", json=body, headers=key).body) == run
    assert unsigned(service.post(f"{path}/cancel", data=b"").body) == run
    small = service.run("bash", "echo small")
    page = service.get("/v1/runs?limit=2").body
    assert [unsigned(each) for each in page["data"]] == [small, run]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (small["id"], run["id"], True)
    head = service.request("HEAD", path)
    assert (head.status, head.raw) == (200, b"")
    with service.events(f"{path}/events") as events:
        assert unsigned([event for _, event in events][-1]["data"]) == run


def unsigned(run):
    """A run without what is another at each reading."""
    return run | {"artifacts": [item | {"url": None, "expires_at": None} for item in run["artifacts"]]}


def test_a_large_output_that_is_damaged_ends_the_answer_and_is_lost_the_next_time(service):
    code = "import os; os.write(1, os.urandom(4).hex().encode() * 100_000); print('kept', file=__import__('sys').stderr)"
    run = service.run("python", code, limits={"max_output_bytes": 1 << 20})
    name = hashlib.sha256(run["stdout"].encode()).hexdigest()
    blob = service.state / "storage" / "artifacts" / "blobs" / name[:2] / name
    blob.write_bytes(b"x" * blob.stat().st_size)
    with pytest.raises(http.client.IncompleteRead):
        service.get(f"/v1/runs/{run['id']}")
    for _ in range(2):
        told = service.get(f"/v1/runs/{run['id']}").body
        assert told == run | {"stdout": "", "stdout_truncated": True}
    blob.unlink()
    other = service.run("python", code.replace("4", "5"), limits={"max_output_bytes": 1 << 20})
    assert service.get("/v1/runs?limit=2").body["data"] == [other, told]

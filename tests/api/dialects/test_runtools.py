"""RunTools' API over HTTP on the real service."""

from __future__ import annotations

from tests.support.slow_machine import require_language

#: As its page has the request, with what its client adds.
DOCUMENTED = b'{"runtime":"python","code":"import numpy as np; print(np.arange(5).sum())","timeout":30000}'


def test_the_documented_request(service):
    headers = {"Content-Type": "application/json", "x-request-id": "req-of-a-test"}
    reply = service.request("POST", "/v1/execute", DOCUMENTED, headers)
    assert reply.status == 200, reply.raw
    data = reply.body["data"]
    expected = (
        b'{"data":{"stdout":"10\\n","stderr":"","exitCode":0,"executionTime":%d,"timedOut":false},'
        b'"meta":{"requestId":"req-of-a-test"}}'
    )
    assert reply.raw == expected % data["executionTime"]
    assert int(reply.headers["x-ratelimit-limit"]) == 1000


def test_a_folder_with_an_entry(service):
    body = {
        "runtime": "python",
        "files": {
            "main.py": "from lib.a import x\nprint(x, input(), __import__('os').environ['A'])",
            "lib/a.py": "x = 1",
        },
        "entrypoint": "main.py",
        "stdin": "in\n",
        "env": {"A": "b"},
    }
    key = {"X-API-Key": service.token}
    reply = service.post("/v1/execute", json=body, headers=key, token=None)
    assert reply.body["data"]["stdout"] == "1 in b\n", reply.body


def test_a_timeout(service):
    body = {"language": "bash", "code": "echo a; sleep 20", "run_timeout": 700}
    run = service.post("/v1/execute", json=body).body["run"]
    assert (run["stdout"], run["code"], run["signal"]) == ("a\n", None, "SIGKILL")
    assert 700 <= run["time_ms"] < 15_000
    first = service.post("/v1/execute", json={"runtime": "python", "code": "while True: pass", "timeout": 500}).body
    assert (first["data"]["timedOut"], first["data"]["exitCode"]) == (True, 137)


def test_the_later_generation_compiles(service):
    require_language("go")
    files = [{"name": "main.go", "content": 'package main\nimport "fmt"\nfunc main() { fmt.Println("hi") }\n'}]
    body = service.post("/v1/execute", json={"language": "go", "version": "*", "files": files}).body
    assert list(body) == ["language", "version", "session_id", "compile", "run"]
    assert (body["compile"]["code"], body["run"]["stdout"], body["run"]["code"]) == (0, "hi\n", 0)
    assert body["run"]["memory_kb"] >= 1024


def test_every_runtime_of_its_list_runs_its_example(service):
    rows = service.get("/v1/runtimes").body["data"]
    examples = {row["id"]: row for row in service.get("/v1/languages", token=None).body["data"] if row["ready"]}
    assert [row["runtime"] for row in rows] == list(examples)
    for row in rows:
        if row["runtime"] in ("bash", "typescript"):
            continue
        body = {"runtime": row["runtime"], "code": examples[row["runtime"]]["example"]}
        reply = service.post("/v1/execute", json=body)
        assert (reply.status, reply.body["data"]["exitCode"]) == (200, 0), (row, reply.body)
        assert row["version"] == examples[row["runtime"]]["version"]

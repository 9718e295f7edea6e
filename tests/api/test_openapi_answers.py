"""Real answers of the service against the specification: no field that it does not name, none missing, no other type."""

from __future__ import annotations

import json
import os
import re

import jsonschema_rs
import pytest

from api.functions import answers
from api.openapi import models
from api.openapi.events import Event
from config.ids import new_id

PLOT = "open('/work/outputs/a.txt', 'w').write('hi')\nimport os; os.symlink('/etc', '/work/outputs/link')\nprint(1)"


@pytest.fixture(scope="module")
def spec(service):
    return service.get("/openapi.json", token=None).body


@pytest.fixture(scope="module")
def check(spec):
    """Hold an answer to what is said of its route and status, and to the model if that is given."""
    schemas, headers = {}, spec["components"]["headers"]

    def held(reply, where, model=None):
        method, path = where.split(" ")
        said = spec["paths"][path][method.lower()]["responses"]
        response = said.get(str(reply.status))
        assert response is not None, f"{where} answers {reply.status}, which is not said"
        for name, said_of_it in response["headers"].items():
            header = headers[said_of_it["$ref"].rpartition("/")[2]] if "$ref" in said_of_it else said_of_it
            assert name.lower() in reply.headers or not header.get("required"), (where, name)
            if name.lower() in reply.headers and "pattern" in header["schema"]:
                assert re.search(header["schema"]["pattern"], reply.headers[name.lower()]), (where, name)
        media = reply.headers.get("content-type", "").partition(";")[0]
        if media not in response.get("content", {}):
            assert "*/*" in response.get("content", {}), (where, media)
            return reply
        if media == "application/json":
            key = (where, reply.status)
            if key not in schemas:
                schema = {**response["content"][media]["schema"], "components": spec["components"]}
                schemas[key] = jsonschema_rs.Draft202012Validator(schema)
            schemas[key].validate(reply.body)
        if model is not None:
            model.model_validate_json(reply.raw)
        return reply

    return held


def test_runs_however_they_end(service, check):
    for body in (
        {"language": "python", "code": PLOT, "metadata": {"user": "42"}},
        {"language": "python", "code": "import sys; sys.exit(3)"},
        {"language": "bash", "code": "kill -SEGV $$"},
        {"language": "bash", "code": "sleep 5", "limits": {"timeout_ms": 100}},
        {"language": "python", "code": "x = bytearray(10**9)", "limits": {"memory_mb": 64}},
        {"language": "bash", "code": "yes", "limits": {"max_output_bytes": 10, "timeout_ms": 300}},
    ):
        run = check(service.post("/v1/runs", json=body), "POST /v1/runs", models.Run).body
        check(service.get(f"/v1/runs/{run['id']}"), "GET /v1/runs/{run_id}", models.Run)
        again = check(service.get(f"/v1/runs/{run['id']}?include=request"), "GET /v1/runs/{run_id}", models.Run)
        assert again.body["request"] == body


def test_a_run_that_waits_and_is_cancelled_and_forgotten(service, check):
    body = {"language": "bash", "code": "sleep 30", "background": True}
    run = check(service.post("/v1/runs", json=body), "POST /v1/runs", models.Run).body["id"]
    check(service.request("DELETE", f"/v1/runs/{run}"), "DELETE /v1/runs/{run_id}", models.Error)
    check(service.get(f"/v1/runs/{run}"), "GET /v1/runs/{run_id}", models.Run)
    check(service.post(f"/v1/runs/{run}/cancel"), "POST /v1/runs/{run_id}/cancel", models.Run)
    check(service.request("DELETE", f"/v1/runs/{run}"), "DELETE /v1/runs/{run_id}", models.RunDeleted)
    gone = check(service.get(f"/v1/runs/{run}"), "GET /v1/runs/{run_id}", models.Error)
    assert gone.status == 404


def test_what_a_compiler_says(service, check):
    ready = {item["id"] for item in service.get("/v1/languages").body["data"] if item["ready"]}
    if "go" not in ready:
        assert os.environ.get("RUNYARD_TEST_REUSE")
        pytest.skip("this developer's service has no compiled language")
    body = {"language": "go", "code": "package main\nfunc main() { oops }"}
    run = check(service.post("/v1/runs", json=body), "POST /v1/runs", models.Run).body
    assert run["compile"]["exit_code"] != 0


def test_events(service, check, spec):
    body = {"language": "python", "code": PLOT, "stream": True}
    event = jsonschema_rs.Draft202012Validator(
        {"$ref": "#/components/schemas/Event", "components": spec["components"]}
    )
    said = service.post("/v1/runs", json=body)
    assert said.headers["content-type"] == "application/x-ndjson"
    lines = said.raw.splitlines()
    for line in lines:
        Event.model_validate_json(line)
        event.validate(json.loads(line))
    run = json.loads(lines[-1])["data"]["id"]
    assert {json.loads(line)["event"] for line in lines} >= {"info", "phase", "stdout", "artifact", "result"}
    sse = service.get(f"/v1/runs/{run}/events", {"Accept": "text/event-stream"})
    data = re.findall(rb"^data: (.*)$", sse.raw, re.MULTILINE)
    assert len(data) == len(lines)
    for line in data:
        Event.model_validate_json(line)


def test_lists(service, check):
    for _ in range(2):
        service.run("bash", "echo x > outputs/x")
    page = check(service.get("/v1/runs?limit=1"), "GET /v1/runs", models.RunList).body
    check(service.get(f"/v1/runs?limit=1&after={page['last_id']}"), "GET /v1/runs", models.RunList)
    check(service.get("/v1/runs?limit=0"), "GET /v1/runs", models.Error)
    check(service.get("/v1/runs?status=queued&language=ruby"), "GET /v1/runs")
    check(service.get("/v1/files?limit=2"), "GET /v1/files", models.FileList)


def test_a_files_life(service, check):
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n1,2\r\n--b--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    file = check(service.request("POST", "/v1/files", body, kind), "POST /v1/files", models.File).body["id"]
    check(service.get(f"/v1/files/{file}"), "GET /v1/files/{file_id}", models.File)
    content = f"/v1/files/{file}/content"
    where = "GET /v1/files/{file_id}/content"
    assert check(service.get(content), where).raw == b"1,2"
    assert check(service.get(content, {"Range": "bytes=0-0"}), where).status == 206
    assert check(service.get(f"{content}?token=x", token=None), where, models.Error).status == 403
    check(service.request("DELETE", f"/v1/files/{file}"), "DELETE /v1/files/{file_id}", models.FileDeleted)
    check(service.get(content), where, models.Error)
    check(service.request("POST", "/v1/files", b"", kind), "POST /v1/files", models.Error)


def test_a_functions_life(service, check):
    name = f"answers-{os.getpid()}"
    one, runs = "/v1/functions/{name}", "POST /v1/functions/{name}/runs"

    def put(**fields):
        body = json.dumps({"language": "bash", **fields}).encode()
        reply = service.request("PUT", f"/v1/functions/{name}", body, {"Content-Type": "application/json"})
        return check(reply, f"PUT {one}", answers.Function if reply.status < 300 else models.Error)

    files = [{"path": "a.sh", "content": "Y2F0", "encoding": "base64"}, {"path": "b", "content": "", "id": None}]
    assert put(files=files, entrypoint="a.sh", limits={"cpus": 0.5}, env={"A": "b"}).status == 201
    assert put(code="cat", description="x", input_schema={"type": "string"}).status == 200
    assert put(code="cat", background=True).status == 202
    assert put(code="cat", packages=["x"]).body["error"]["code"] == "not_supported"
    check(service.get(f"/v1/functions/{name}"), f"GET {one}", answers.Function)
    check(service.get(f"/v1/functions/{name}?version=99"), f"GET {one}", models.Error)
    check(service.get("/v1/functions?limit=1"), "GET /v1/functions", answers.FunctionList)
    for version, body in (("@2", {"input": "x"}), ("@2", {"input": 1}), ("", {"background": True})):
        reply = service.post(f"/v1/functions/{name}{version}/runs", json=body)
        check(reply, runs, models.Error if reply.status == 400 else models.Run)
    check(service.request("DELETE", f"/v1/functions/{name}"), f"DELETE {one}", answers.FunctionDeleted)
    check(service.post(f"/v1/functions/{name}/runs", json={}), runs, models.Error)


def test_what_the_service_says_of_itself(service, check):
    check(service.get("/v1/languages", token=None), "GET /v1/languages", models.LanguageList)
    check(service.get("/v1/health", token=None), "GET /v1/health", models.Health)
    check(service.get("/readyz", token=None), "GET /readyz", models.Health)
    check(service.get("/healthz", token=None), "GET /healthz", models.Alive)
    check(service.get("/metrics", token=None), "GET /metrics")
    check(service.get("/openapi.json", token=None), "GET /openapi.json")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"language": "python"}, {}, 400),
        ({"language": "cobol", "code": "1"}, {}, 400),
        ({"language": "python", "code": "1", "files": [{"path": "a", "id": "file_x"}]}, {}, 400),
        ({"language": "python", "code": "1"}, {"Content-Type": "text/plain"}, 415),
        ({"language": "python", "code": "1"}, {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_refused_runs(service, check, body, headers, status):
    reply = check(service.post("/v1/runs", json=body, headers=headers), "POST /v1/runs", models.Error)
    assert reply.status == status


def test_other_errors_of_runs(service, check):
    body = {"language": "bash", "code": "echo x"}
    key = {"Idempotency-Key": new_id("key")}
    assert check(service.post("/v1/runs", json=body, token=None), "POST /v1/runs", models.Error).status == 401
    check(service.post("/v1/runs", json=body, headers=key), "POST /v1/runs", models.Run)
    again = service.post("/v1/runs", json={**body, "args": ["x"]}, headers=key)
    assert check(again, "POST /v1/runs", models.Error).status == 422
    replies = [service.get("/v1/runs?limit=1", token=service.slow_token) for _ in range(40)]
    assert check(replies[-1], "GET /v1/runs", models.Error).status == 429

"""RunTools' sandboxes over HTTP on the real service."""

from __future__ import annotations

import json
import uuid

import pytest

#: As its pages have the requests.
CREATE = b'{\n    "template": "base-ubuntu",\n    "name": "%s",\n    "tags": ["ci"],\n    "resources": {\n      "vcpus": 2,\n      "memory": "4GB"\n    },\n    "env": {\n      "NODE_ENV": "development"\n    }\n  }'
EXEC = b'\n{\n"command": "%s",\n"timeout": 30000,\n"cwd": "/workspace",\n"env": {}\n}\n'


@pytest.fixture
def make(service):
    """Makes a sandbox of the test's own from a body: its name and its object. All are destroyed in the end."""
    made = []

    def one(body):
        name = f"build-runner-{uuid.uuid4().hex}"
        headers = {"X-API-Key": service.token, "Content-Type": "application/json"}
        reply = service.request("POST", "/v1/sandboxes", body % name.encode(), headers, token=None)
        assert reply.status == 201, reply.raw
        made.append(reply.body["data"]["id"])
        return name, reply.body["data"]

    yield one
    for sandbox_id in made:
        service.request("DELETE", f"/v1/sandboxes/{sandbox_id}")


@pytest.fixture
def sandbox(make):
    return make(b'{"name": "%s", "resources": {"memory": "256MB"}}')


def execute(service, name, command, **fields):
    reply = service.post(f"/v1/sandboxes/{name}/exec", json={"command": command, **fields})
    assert reply.status == 200, reply.body
    return reply.body["data"]


def test_the_documented_requests(service, make):
    name, made = make(CREATE)
    expected = {
        "name": name, "status": "running", "template": "base-ubuntu", "tags": ["ci"], "sshReady": True,
        "vncReady": False, "resources": {"vcpus": 2.0, "memory": "2048MB"},
    }  # fmt: skip
    assert made == expected | {"id": made["id"], "createdAt": made["createdAt"]}
    headers = {
        "Authorization": f"Bearer {service.token}",
        "Content-Type": "application/json",
        "x-request-id": "req_1",
    }
    path = f"/v1/sandboxes/{made['id']}/exec"
    reply = service.request("POST", path, EXEC % b"echo $NODE_ENV; pwd; echo no >&2; exit 3", headers, token=None)
    took = reply.body["data"]["durationMs"]
    assert reply.raw == (
        b'{"data":{"stdout":"development\\n/work\\n","stderr":"no\\n","exitCode":3,"executionTime":%d,'
        b'"durationMs":%d},"meta":{"requestId":"req_1"}}' % (took, took)
    )
    found = service.get(f"/v1/sandboxes/{name}", headers={"X-API-Key": service.token}, token=None)
    assert found.body["data"] == made
    listed = service.get("/v1/sandboxes?limit=50")
    assert listed.body["data"][0] == made
    assert listed.body["meta"]["hasMore"] is False
    session = service.get(f"/v1/sessions/{made['id'].replace('sandbox-', 'sess_')}").body
    assert (session["status"], session["metadata"]["dialect"]) == ("ready", "runtools")


def test_files_stay_between_commands_and_background_processes_live_on(service, sandbox):
    name, _ = sandbox
    execute(service, name, "mkdir -p app; echo 'print(6 * 7)' > app/a.py; (sleep 300 &) >/dev/null 2>&1")
    done = execute(service, name, "python3 a.py; pgrep -c sleep || ps | grep -c '[s]leep'", cwd="/workspace/app")
    assert done["stdout"].split()[0] == "42"
    late = execute(service, name, "echo begun; sleep 60", timeout=400)
    assert (late["stdout"], late["exitCode"]) == ("begun\n", 137)
    assert 400 <= late["durationMs"] < 20_000


def test_a_sandbox_ends_with_all_that_is_in_it(service, sandbox):
    name, made = sandbox
    reply = service.request("DELETE", f"/v1/sandboxes/{name}")
    assert (reply.status, reply.body["data"]["status"]) == (200, "destroyed")
    reply = service.post(f"/v1/sandboxes/{made['id']}/exec", json={"command": "ls"})
    assert (reply.status, reply.body["error"]["code"]) == (404, "not_found")
    assert service.get("/v1/sandboxes?status=destroyed").body["data"][0]["id"] == made["id"]


def test_another_keys_sandbox_is_not_there(service, sandbox):
    for name in (sandbox[0], sandbox[1]["id"]):
        for method, path, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/exec", {"command": "ls"})):
            data = None if body is None else json.dumps(body).encode()
            kind = {"Content-Type": "application/json"}
            reply = service.request(method, f"/v1/sandboxes/{name}{path}", data, kind, token=service.other_token)
            assert (reply.status, reply.body["error"]["message"]) == (404, "Sandbox not found")
    assert execute(service, sandbox[0], "echo alive")["stdout"] == "alive\n"

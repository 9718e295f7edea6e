"""Requests as the clients of each service send them, with all services on, some, and none: nothing is misrouted."""

from __future__ import annotations

import json

import pytest
from flask import Response

from api.dialects.shared_paths import Claim, SharedPath
from api.openapi.decorator import Operation
from tests.unit.test_api_app import Api, language, upload_form

#: (service, method, path, body, what only its own answer has)
REQUESTS = [
    ("piston", "GET", "/api/v2/runtimes", None, '"aliases"'),
    ("piston", "GET", "/api/v2/piston/runtimes", None, '"aliases"'),
    (
        "piston",
        "POST",
        "/api/v2/execute",
        {"language": "python", "version": "*", "files": [{"content": "1"}], "stdin": "", "args": []},
        '"output"',
    ),
    (
        "piston",
        "POST",
        "/api/v2/piston/execute",
        {"language": "python", "version": "3.x", "files": [{"name": "a.py", "content": "1"}]},
        '"output"',
    ),
    (
        "piston",
        "POST",
        "/execute",
        {"language": "python", "version": "3.13.5", "files": [{"name": "main", "content": "1"}]},
        '"output"',
    ),
    ("runakode", "POST", "/api", {"language": "python", "source_code": "1"}, '"exec_time_ms"'),
    ("runakode", "GET", "/health", None, '"version"'),
    ("runtools", "POST", "/v1/execute", {"runtime": "python", "code": "1", "timeout": 30000}, '"executionTime"'),
    ("runtools", "POST", "/v1/execute", {"language": "python", "version": "*", "code": "1"}, '"session_id"'),
    ("runtools", "GET", "/v1/runtimes", None, '"runtime"'),
    (
        "agent-coderunner",
        "POST",
        "/api/execute",
        {"language": "python", "code": "1"},
        '"timedOut":false,"language"',
    ),
    (
        "agent-coderunner",
        "POST",
        "/v1/agent-coderunner/api/execute",
        {"language": "python", "code": "1"},
        '"timedOut":false,"language"',
    ),
    ("agent-coderunner", "GET", "/api/run/python?code=1", None, '"timedOut":false,"language"'),
    (
        "agent-coderunner",
        "POST",
        "/execute",
        {"code": "1", "language": "python", "stdin": ""},
        '"timedOut":false,"language"',
    ),
    ("agent-coderunner", "GET", "/api/languages", None, '"languages"'),
    ("agent-coderunner", "GET", "/api/sessions", None, '"sessions"'),
    ("agent-coderunner", "GET", "/api/executions", None, '"executions"'),
    ("tinirun", "POST", "/api/code/run", {"lang": "python", "code": "1"}, '"Checking base image..."'),
    ("any", "GET", "/models", None, '"list"'),
    ("any", "GET", "/v1/models", None, '"list"'),
]


@pytest.fixture(
    params=["all", "none", "piston", "runakode", "runtools", "agent-coderunner", "tinirun", "runtools,piston"],
    scope="module",
)
def api(request):
    made = Api(dialects=request.param, self_service_keys=False)
    made.worker.languages = [language("python", version="3.13.5", entry_file="main.py")]
    yield made
    made.close()


@pytest.mark.parametrize(("service", "method", "path", "body", "sign"), REQUESTS)
def test_a_request_reaches_its_service_alone(api, service, method, path, body, sign):
    data = None if body is None else json.dumps(body)
    headers = {"Authorization": "Bearer tok", "Content-Type": "application/json"}
    reply = api.client.open(path, method=method, data=data, headers=headers)
    enabled = api.settings.dialect_names()
    if service in enabled or (service == "any" and enabled):
        assert reply.status_code == 200, reply.text
        assert sign in reply.text
        others = {row[4] for row in REQUESTS if row[0] != service} - {'"version"', '"aliases"'}
        assert not any(other in reply.text for other in others if other != sign)
    else:
        assert reply.status_code == 404
        assert sign not in reply.text


def test_the_paths_of_the_service_itself_are_its_own(api):
    headers = {"Authorization": "Bearer tok"}
    run = api.client.post("/v1/runs", json={"language": "python", "code": "1"}, headers=headers)
    assert run.json["object"] == "run"
    for path in ("/v1/files", "/v1/runs"):
        assert api.client.get(path, headers=headers).json["object"] == "list"
    assert list(api.client.get("/v1/health").json) == ["status", "version", "checks"]
    expected = 200 if "runtools" in api.settings.dialect_names() else 404
    assert api.client.get("/v1/sandboxes", headers=headers).status_code == expected


def test_the_specification_of_tinirun_has_its_own_paths_alone(api):
    reply = api.client.get("/api/openapi.json")
    if "tinirun" not in api.settings.dialect_names():
        assert reply.status_code == 404
        return
    names = set(reply.json["paths"])
    assert {"/api/code/run", "/api/function/{name}/run/stream", "/api/openapi.json"} <= names
    assert not {name for name in names if not name.startswith(("/api/code/", "/api/function", "/api/openapi.json"))}
    assert api.client.get("/api/docs").text == api.client.get("/docs").text
    assert api.client.get("/api/docs/start.js").data == api.client.get("/docs/start.js").data
    assert list(api.client.get("/api/docs/nothing").json) == ["message"]


#: As Jupyter's clients create a session of a kernel: nobody's, and never a session of agent-coderunner.
JUPYTER = [
    {"path": "a.ipynb", "type": "notebook", "name": "", "kernel": {"name": "python3"}},
    {"kernel": {"id": "0b1f8a5e-8a2c-4a7c-9d44-7c3f0e8d9a11"}},
]


@pytest.mark.parametrize("body", JUPYTER)
def test_the_sessions_of_jupyter_are_nobodys(api, body):
    reply = api.client.post("/api/sessions", json=body, headers={"Authorization": "Bearer tok"})
    assert reply.status_code == 404
    assert list(reply.json["error"]) == ["message", "type", "param", "code"]


#: As OpenSandbox's SDK and LiteLLM send them: nobody's, and never a sandbox of RunTools.
OPEN_SANDBOX = [
    ("POST", "/v1/sandboxes", {"image": {"uri": "python:3.11"}, "entrypoint": ["tail"], "timeout": 600}, ""),
    ("POST", "/v1/sandboxes", {"image": {"uri": "x"}, "entrypoint": ["x"], "resourceLimits": {"cpu": "1"}}, None),
    ("POST", "/v1/sandboxes", {"extensions": {"poolRef": "p"}}, None),
    ("POST", "/v1/sandboxes", {"template": "base-ubuntu"}, "key"),
    ("GET", "/v1/sandboxes", None, ""),
    ("GET", "/v1/sandboxes/0b1f8a5e-8a2c-4a7c-9d44-7c3f0e8d9a11", None, "key"),
    ("DELETE", "/v1/sandboxes/0b1f8a5e-8a2c-4a7c-9d44-7c3f0e8d9a11", None, "key"),
]


@pytest.mark.parametrize(("method", "path", "body", "key"), OPEN_SANDBOX)
def test_the_sandboxes_of_a_service_that_is_not_there_are_nobodys(api, method, path, body, key):
    headers = {"Authorization": "Bearer tok"} | ({} if key is None else {"OPEN-SANDBOX-API-KEY": key})
    reply = api.client.open(path, method=method, json=body, headers=headers)
    assert reply.status_code == 404
    assert list(reply.json["error"]) == ["message", "type", "param", "code"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/files/file_1?payload=x&sig=0"), ("DELETE", "/v1/files/file_1")]
)
def test_files_are_this_services_own_whatever_is_on(api, method, path):
    reply = api.client.open(path, method=method, headers={"Authorization": "Bearer tok"})
    assert reply.status_code in (403, 404)
    assert list(reply.json["error"]) == ["message", "type", "param", "code"]
    reply = api.client.post("/v1/files", **upload_form(b"x"), headers={"Authorization": "Bearer tok"})
    assert reply.json["object"] == "file", reply.text


@pytest.fixture(scope="module")
def closed():
    made = Api(self_service_keys=False)
    yield made
    made.close()


@pytest.mark.parametrize("path", ["/models", "/v1/models"])
def test_models_are_listed_to_everybody(closed, path):
    for headers in ({}, {"Authorization": "Bearer tok"}, {"Authorization": "Bearer no"}, {"X-API-Key": ""}):
        reply = closed.client.get(path, headers=headers)
        assert (reply.status_code, reply.content_type) == (200, "application/json")
        assert reply.data == b'{"object":"list","data":[]}'


def test_a_path_that_is_shared_and_a_body_that_is_nobodys(closed):
    headers = {"Authorization": "Bearer tok"}
    for body in ({}, {"command": "ls"}, {"code": "1", "context_id": None}):
        assert closed.client.post("/execute", json=body, headers=headers).status_code == 404
    for data in (b"", b"[]", b"\xff", b"["):
        assert closed.client.post("/execute", data=data, headers=headers).status_code == 404
    assert closed.worker.jobs == []


def claim(dialect, **asks):
    return Claim(dialect, lambda _body: Response(), lambda _e: Response(), **asks)


HEADER, KEYS = claim("e2b", header="E2b-Sandbox-Id"), claim("piston", keys=frozenset({"files", "version"}))
REST, ANY = claim("terminal"), claim(None)


@pytest.mark.parametrize(
    ("enabled", "headers", "body", "expected"),
    [
        ({"e2b", "piston", "terminal"}, {"E2b-Sandbox-Id"}, b'{"files":[]}', HEADER),
        ({"e2b", "piston", "terminal"}, set(), b'{"files":[]}', KEYS),
        ({"e2b", "piston", "terminal"}, set(), b'{"command":"ls"}', REST),
        ({"e2b", "piston", "terminal"}, set(), b"not JSON", REST),
        ({"piston", "terminal"}, {"E2b-Sandbox-Id"}, b'{"version":"*"}', KEYS),
        ({"e2b", "piston"}, set(), b"{}", None),
        ({"e2b"}, {"Other"}, b'{"files":[]}', None),
        (set(), {"E2b-Sandbox-Id"}, b'{"files":[]}', None),
    ],
)
def test_a_header_comes_before_the_keys_of_the_body(enabled, headers, body, expected):
    said = Operation("X", tag="-", answers={})
    shared = SharedPath("/execute", "POST", (HEADER, KEYS, REST), said)
    assert shared.choose(frozenset(enabled), headers.__contains__, body) is expected


@pytest.mark.parametrize(
    ("body", "expected"), [({"code": "1"}, False), ({"code": "1", "language": "x"}, True), ({}, False)]
)
def test_a_claim_may_need_all_its_keys(body, expected):
    both = claim("coder", keys=frozenset({"code", "language"}), needs_all=True)
    shared = SharedPath("/execute", "POST", (both,), Operation("X", tag="-", answers={}))
    chosen = shared.choose(frozenset({"coder"}), {}.__contains__, json.dumps(body).encode())
    assert (chosen is both) is expected


def test_what_is_sent_into_a_sandbox_of_e2b_is_nobodys(api):
    headers = {"Authorization": "Bearer tok", "E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "49999"}
    for body in ({"code": "1", "language": "python", "context_id": None}, {"language": "python", "files": []}):
        reply = api.client.post("/execute", json=body, headers=headers)
        assert (reply.status_code, list(reply.json["error"])) == (404, ["message", "type", "param", "code"])


def test_what_belongs_to_no_service_alone_is_there_for_any():
    shared = SharedPath("/models", "GET", (ANY,), Operation("X", tag="-", answers={}))
    assert shared.choose(frozenset({"runtools"}), {}.__contains__, b"") is ANY

"""Piston's routes in process: its settings, who is served without a key, and what the service's failures look like."""

from __future__ import annotations

import json

import pytest

from api.errors import ErrorObject
from dispatch import WorkerLost, WorkerUnavailable
from protocol.result import Refusal, Result
from tests.unit.test_api_app import AUTH, LIMITS, language, make_api

__all__ = ["make_api"]

BODY = {"language": "python", "version": "*", "files": [{"content": "print(1+1)"}]}


def execute(api, body=BODY, headers=AUTH, path="/api/v2/execute", content_type=None):
    return api.client.post(path, data=json.dumps(body), headers=headers, content_type=content_type)


def said(reply, status):
    assert (reply.status_code, reply.content_type) == (status, "application/json")
    assert list(reply.json) == ["message"]
    return reply.json["message"]


def test_the_job(make_api):
    api = make_api()
    reply = execute(api, BODY | {"stdin": "a", "args": ["b"], "run_timeout": 500})
    assert reply.json["run"]["output"] == "2\n"
    assert (reply.json["language"], reply.json["version"]) == ("python", "1.0.0")
    (job,) = api.worker.jobs
    assert (job.language, job.code, job.entrypoint, job.stdin, job.args) == (
        "python",
        None,
        "main.py",
        "a\n",
        ("b",),
    )
    assert job.limits == {"max_artifact_files": 0, "timeout_ms": 500}
    assert [(file.path, file.content) for file in job.files] == [("main.py", b"print(1+1)")]


@pytest.mark.parametrize("path", ["/api/v2/execute", "/api/v2/piston/execute/", "/execute"])
def test_a_strict_service_wants_json_to_be_said(make_api, path):
    strict, usual = make_api(piston_strict=True), make_api()
    for content_type in (None, "text/plain", "application/jso"):
        message = said(execute(strict, path=path, content_type=content_type), 415)
        assert message == "requests must be of type application/json"
        assert execute(usual, path=path, content_type=content_type).status_code == 200
    for content_type in ("application/json", "application/json; charset=utf-8"):
        assert execute(strict, path=path, content_type=content_type).status_code == 200
    assert strict.client.get("/api/v2/runtimes").status_code == 200


def test_a_dialect_that_is_switched_off_is_not_there(make_api):
    api = make_api(dialects="none")
    for path in ("/api/v2/execute", "/api/v2/piston/execute", "/execute"):
        reply = execute(api, path=path)
        assert (reply.status_code, reply.json["error"]["code"]) == (404, "not_found")
    assert api.client.get("/api/v2/runtimes").status_code == 404


def test_without_a_key_where_nobody_is_served_without(make_api):
    api = make_api(self_service_keys=False)
    reply = execute(api, headers={})
    assert said(reply, 401).startswith("Missing key")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert api.worker.jobs == []
    assert said(execute(api, headers={"X-API-Key": "wrong"}), 401)
    assert execute(api, headers={"X-API-Key": "tok"}).status_code == 200
    assert execute(api, headers={"Authorization": "tok"}).status_code == 200


def test_without_a_key_by_address(make_api):
    api = make_api(self_service_keys=True)
    replies = [execute(api, headers={}) for _ in range(12)]
    assert [reply.status_code for reply in replies] == [200] * 10 + [429] * 2
    assert "Rate limit" in said(replies[-1], 429)
    assert int(replies[-1].headers["Retry-After"]) >= 1
    owners = {job.key for job in api.worker.jobs}
    assert len(owners) == 1
    assert owners.pop().startswith("key_")


def test_without_a_key_on_account_of_a_stored_one(make_api):
    made = make_api(self_service_keys=True)
    key = made.client.post("/v1/keys").json
    deps = made.app.extensions["runyard"]
    deps.settings = made.settings.model_copy(update={"self_service_keys": False, "dialect_key": key["id"]})
    assert execute(made, headers={}).status_code == 200
    assert made.worker.jobs[-1].key == key["id"]
    deps.settings = deps.settings.model_copy(update={"dialect_key": "key_unknown"})
    assert said(execute(made, headers={}), 401) == "Requests without a key are not served at the moment."


def test_a_run_that_the_service_failed_is_an_internal_error_of_the_box(make_api):
    api = make_api()
    api.worker.answer = WorkerLost("gone")
    run = execute(api).json["run"]
    assert (run["status"], run["code"], run["signal"], run["stdout"]) == ("XX", None, None, "")
    assert run["message"]
    assert not isinstance(run["message"], ErrorObject)


def test_failures_before_the_run(make_api):
    api = make_api()
    api.worker.answer = Refusal(503, "All places are taken.", "overloaded", retry_after_s=3)
    reply = execute(api)
    assert (said(reply, 503), reply.headers["Retry-After"]) == ("All places are taken.", "3")
    api.worker.answer = WorkerUnavailable("down")
    assert said(execute(api), 503)
    api.worker.answer = RuntimeError("inside")
    assert execute(api).json["run"]["status"] == "XX"
    api.worker.down = True
    api.app.extensions["runyard"].languages.forget()
    for reply in (execute(api), api.client.get("/api/v2/runtimes"), api.client.get("/api/v2/packages")):
        assert said(reply, 503)
        assert reply.headers["Retry-After"]


def test_a_language_that_is_not_ready(make_api):
    api = make_api()
    api.worker.languages = [language("python"), language("ruby", ready=False, version=None)]
    reply = execute(api, BODY | {"language": "ruby", "version": "3.x"})
    assert said(reply, 503) == "language: ruby is not ready yet"
    assert [row["language"] for row in api.client.get("/api/v2/runtimes").json] == ["python"]
    # One that has become ready since is seen at once.
    api.worker.languages = [language("python"), language("ruby", version="3.3.1")]
    api.app.extensions["runyard"].languages.forget()
    assert execute(api, BODY | {"language": "ruby", "version": "3.x"}).json["version"] == "3.3.1"


def test_outputs_in_the_order_of_the_events(make_api):
    api = make_api()
    result = Result(status="succeeded", language="python", limits=LIMITS, exit_code=0, stdout="ac", stderr="bd")
    api.worker.answer = result.to_json()
    assert execute(api).json["run"]["output"] == "acbd"
    timeline = [["stdout", 1, 1], ["stderr", 1, 2], ["stdout", 1, 3], ["stderr", 1, 4]]
    api.worker.answer = result.to_json() | {"timeline": timeline}
    assert execute(api).json["run"]["output"] == "abcd"


def test_a_body_that_claims_nothing_of_the_root(make_api):
    api = make_api(dialects="piston")
    for body in ({"command": "ls"}, {"language": "python", "code": "1"}, {}):
        reply = execute(api, body, path="/execute")
        assert (reply.status_code, reply.json["error"]["code"]) == (404, "not_found")
    assert said(execute(api, {"files": []}, path="/execute"), 400) == "language is required as a string"
    assert api.client.get("/execute").status_code == 405

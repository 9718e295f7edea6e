"""RunTools' sandboxes over a worker whose sessions are given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.runtools.sandbox_answers import executed, sandbox
from api.dialects.runtools.sandbox_requests import process_fields, session_fields
from api.errors import ApiError
from api.keys.plans import load_plans
from api.sessions.process_requests import parse_process
from api.sessions.requests import parse_session
from config.settings import Settings
from protocol.session import SESSION_LIMIT_RULES
from tests.unit.test_api_app import Api, language

IDS = {"python": "python", "py": "python", "node": "node", "go": "go", "bash": "bash"}
KEY = {"Authorization": "Bearer tok"}
ENDED = {
    "status": "ended", "end_reason": "deleted", "ended_at": "2026-11-28T10:00:01.000Z", "last_active_at": None,
    "expires_in_ms": 0,
}  # fmt: skip
USED = {
    "runs": 0,
    "awake_ms": 5,
    "usage": {"memory_mb": 1, "disk_mb": 0, "cpu_ms": 1, "processes": 0, "egress_bytes": 0},
}
PROCESS = {
    "id": "proc_1", "object": "process", "pid": 7, "argv": ["bash"], "tag": None, "status": "ended", "exit_code": 0,
    "signal": None, "timed_out": False, "started_at": "2026-11-28T10:00:00.000Z",
    "ended_at": "2026-11-28T10:00:00.012Z", "stdout": "aGkK", "stderr": "", "truncated": False, "kept_bytes": 3,
}  # fmt: skip


class Sessions:
    """The worker's sessions, as `dispatch.sessions` has them."""

    def __init__(self):
        self.live, self.specs, self.asked = {}, [], []

    def create(self, spec):
        self.specs.append(spec)
        self.live[spec.session_id] = {"status": "ready", "end_reason": None, "expires_in_ms": 1000} | USED
        yield self.live[spec.session_id]

    def facts(self, session_id):
        return self.live.get(session_id)

    def all_facts(self):
        return [{**facts, "id": name} for name, facts in self.live.items() if facts["end_reason"] is None]

    def end(self, session_id, _key, _reason):
        self.live[session_id] = ENDED
        return ENDED

    def ask(self, do, _session_id, _key, _answer, **fields):
        self.asked.append((do, fields))
        return dict(PROCESS)

    def write_input(self, *_args, **_fields):
        return dict(PROCESS)


@pytest.fixture(scope="module")
def api():
    made = Api(self_service_keys=True)
    made.worker.languages = [language("python", version="3.13.5", aliases=["py"], entry_file="main.py")]
    found = made.app.extensions["runyard"]
    found.session_worker = found.sessions._worker = found.sessions._watch._worker = made.sessions = Sessions()
    yield made
    made.close()


def call(api, method, path, body=None, headers=KEY):
    return api.client.open(f"/v1/sandboxes{path}", method=method, json=body, headers=headers)


def test_a_sandbox_from_its_creation_to_its_end(api):
    documented = b'{\n"template": "base-ubuntu",\n"name": "build-runner"\n}'
    headers = {"X-API-Key": "tok", "Content-Type": "application/json", "x-request-id": "req-1"}
    reply = api.client.post("/v1/sandboxes", data=documented, headers=headers)
    assert (reply.status_code, reply.content_type) == (201, "application/json")
    made = reply.json["data"]
    assert reply.json["meta"] == {"requestId": "req-1"}
    assert list(made) == [
        "id", "name", "status", "template", "tags", "sshReady", "vncReady", "resources", "createdAt",
    ]  # fmt: skip
    assert (made["name"], made["status"], made["template"]) == ("build-runner", "running", "base-ubuntu")
    assert int(reply.headers["x-ratelimit-limit"]) == 1000
    again = call(api, "POST", "", {"template": "base-ubuntu", "name": "build-runner"})
    assert (again.status_code, again.json["data"]["id"]) == (200, made["id"])
    for name in (made["id"], "build-runner"):
        assert call(api, "GET", f"/{name}").json["data"] == made
    assert made in call(api, "GET", "").json["data"]
    done = call(
        api, "POST", "/build-runner/exec", {"command": "npm test", "cwd": "/workspace/a", "env": {"CI": "1"}}
    )
    expected = {"stdout": "hi\n", "stderr": "", "exitCode": 0, "executionTime": 12, "durationMs": 12}
    assert done.json["data"] == expected
    spec = next(fields["process"] for do, fields in api.sessions.asked if do == "start")
    assert (spec["argv"], spec["cwd"], spec["env"]) == (("bash", "-c", "npm test"), "/work/a", {"CI": "1"})
    assert spec["timeout_ms"] == 30_000
    for _ in range(2):
        gone = call(api, "DELETE", f"/{made['id']}")
        assert (gone.status_code, gone.json["data"]["status"]) == (200, "destroyed")
    for method, path in (("GET", "/build-runner"), ("POST", f"/{made['id']}/exec"), ("DELETE", "/build-runner")):
        reply = call(api, method, path, {"command": "ls"} if method == "POST" else None)
        assert reply.status_code == 404
        assert reply.json["error"]["code"] == "not_found"
        assert reply.json["error"]["message"].startswith("Sandbox not found")
    assert call(api, "GET", f"/{made['id']}").json["data"]["status"] == "destroyed"


def test_lists_are_paged_and_filtered(api):
    ids = [call(api, "POST", "", {"template": "python"}).json["data"]["id"] for _ in range(3)]
    first = call(api, "GET", "?limit=2").json
    assert [row["id"] for row in first["data"]] == ids[:0:-1]
    assert first["meta"] == {"hasMore": True, "nextCursor": ids[1]}
    rest = call(api, "GET", f"?limit=2&cursor={ids[1]}").json
    assert rest == {"data": rest["data"], "meta": {"hasMore": False, "nextCursor": None}}
    assert [row["id"] for row in rest["data"]] == ids[:1]
    call(api, "DELETE", f"/{ids[0]}")
    assert ids[0] in [row["id"] for row in call(api, "GET", "?status=destroyed").json["data"]]
    assert ids[0] not in [row["id"] for row in call(api, "GET", "?status=running").json["data"]]
    assert call(api, "GET", "?status=paused").json["data"] == []


WRONG = {
    "no such template": ("POST", "", {"template": "windows"}, 400, "template: unknown; supported: base-ubuntu, python"),
    "a template that is a number": ("POST", "", {"template": 1}, 400, "template"),
    "a body that is a list": ("POST", "", [], 400, "The body must be a JSON object"),
    "a name with spaces": ("POST", "", {"name": "a b"}, 400, "name"),
    "a mount": ("POST", "", {"mounts": [{"workspaceId": "x", "path": "/workspace"}]}, 400, "mounts: workspaces"),
    "an SSH key": ("POST", "", {"sshKeys": ["ssh-ed25519 A"]}, 400, "sshKeys: SSH is not available"),
    "memory in words": ("POST", "", {"resources": {"memory": "much"}}, 400, "resources.memory: must be a size"),
    "too little memory": ("POST", "", {"resources": {"memory": "1MB"}}, 400, "resources.memory: 1 is below"),
    "no processor": ("POST", "", {"vcpus": 0}, 400, "resources.vcpus: 0 is below"),
    "a negative time": ("POST", "", {"idleTimeout": -1}, 400, "idleTimeout: must be an integer from 0"),
    "tags of numbers": ("POST", "", {"tags": [1]}, 400, "tags: must be a list of strings"),
    "too many tags": ("POST", "", {"tags": ["x" * 600]}, 400, "tags: at most 512 bytes"),
    "a variable without a name": ("POST", "", {"env": {"": "x"}}, 400, "env"),
    "no command": ("POST", "/here/exec", {}, 400, "command: is required"),
    "a command that is a list": ("POST", "/here/exec", {"command": ["ls"]}, 400, "command"),
    "a timeout of nothing": ("POST", "/here/exec", {"command": "ls", "timeout": 0}, 400, "timeout: must be an integer"),
    "a directory with NUL": ("POST", "/here/exec", {"command": "ls", "cwd": "a\0"}, 400, "cwd"),
    "no sandbox": ("GET", "/sandbox-aaaaaaaaaaaaaaaaaaaaaaaaaa", None, 404, "Sandbox not found"),
    "a session's own id": ("GET", "/sess_aaaaaaaaaaaaaaaaaaaaaaaaaa", None, 404, "Sandbox not found"),
    "a cursor of another list": ("GET", "?cursor=abc", None, 400, "cursor: is not one of this list"),
    "a cursor of nobody": ("GET", "?cursor=sandbox-a", None, 400, "cursor: is not one of this list"),
    "a limit of a thousand": ("GET", "?limit=1000", None, 400, "limit"),
    "a method that is not there": ("PUT", "/here", None, 405, "Method not allowed"),
    "a path below": ("GET", "/here/files", None, 404, "No such"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request(api, name):
    method, path, body, status, message = WRONG[name]
    call(api, "POST", "", {"name": "here"})
    reply = call(api, method, path, body)
    assert reply.status_code == status, reply.text
    assert list(reply.json["error"]) == ["code", "message", "requestId"]
    assert reply.json["error"]["message"].startswith(message), reply.text


def test_a_sandbox_belongs_to_its_key(api):
    made = call(api, "POST", "", {"name": "mine"}).json["data"]
    other = {"Authorization": "Bearer other"}
    for name in (made["id"], "mine"):
        assert call(api, "GET", f"/{name}", headers=other).status_code == 404
        assert call(api, "POST", f"/{name}/exec", {"command": "ls"}, headers=other).status_code == 404
        assert call(api, "DELETE", f"/{name}", headers=other).status_code == 404
    assert call(api, "GET", "", headers=other).json["data"] == []


def test_a_sandbox_is_nothing_for_those_without_a_key(api):
    for method, path in (("POST", ""), ("GET", ""), ("GET", "/a"), ("DELETE", "/a"), ("POST", "/a/exec")):
        reply = call(api, method, path, {} if method == "POST" else None, headers={})
        assert (reply.status_code, reply.json["error"]["code"]) == (401, "unauthorized")


def outcome(call):
    try:
        return call(), None
    except ApiError as e:
        return None, e


def fields(plan=None, **data):
    return session_fields(data, IDS, plan)


def test_what_a_request_is_as_a_session():
    documented = fields(
        name="dev-env", template="base-ubuntu", tags=["docs"],
        resources={"vcpus": 1, "memory": "1GB", "disk": "10GB"}, env={"NODE_ENV": "development"}, idleTimeout=600,
    )  # fmt: skip
    assert documented == {
        "language": "python", "limits": {"cpus": 1, "memory_mb": 1024}, "name": "dev-env",
        "metadata": {"dialect": "runtools", "runtools.template": "base-ubuntu", "runtools.tags": '["docs"]'},
        "env": {"NODE_ENV": "development"}, "idle_timeout_s": 600,
    }  # fmt: skip
    assert fields()["language"] == "python"
    assert fields(template="nodejs-20")["language"] == "node"
    assert fields(template="go-1.22")["language"] == "go"
    assert fields(template="py")["language"] == "python"
    assert fields(idleTimeout=0)["idle_timeout_s"] == fields(idleTimeoutSeconds=10**9)["idle_timeout_s"] == 86_400
    assert fields(vcpus=64, memoryMb=10**6)["limits"] == {"cpus": 2.0, "memory_mb": 2048}
    plan = load_plans(Settings()).get("anonymous")
    assert fields(plan, resources={"memory": "4GB"})["limits"]["memory_mb"] == plan.ceiling("memory_mb")


@given(st.dictionaries(st.sampled_from(["template", "name", "tags", "env", "resources", "vcpus", "memoryMb", "metadata", "idleTimeout"]), st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)))  # fmt: skip
def test_any_body_is_a_session_or_refused(data):
    asked, refused = outcome(lambda: parse_session(session_fields(data, IDS, None)))
    if refused is not None:
        assert (refused.status, len(refused.error.message) < 400) == (400, True)
    else:
        assert asked.language in IDS.values()
        assert all(value <= SESSION_LIMIT_RULES[name].ceiling for name, value in asked.limits.items())


@given(st.dictionaries(st.sampled_from(["command", "timeout", "cwd", "env"]), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=2)))  # fmt: skip
def test_any_command_is_a_process_or_refused(data):
    asked, refused = outcome(lambda: parse_process(process_fields(data)))
    if refused is not None:
        assert refused.status == 400
    else:
        assert asked.argv[:2] == ("bash", "-c")
        assert asked.cwd.startswith("/")


def test_how_a_command_ended():
    ended = PROCESS | {"stdout": "", "stderr": ""}
    assert executed(ended | {"exit_code": None, "signal": "SIGKILL"})["exitCode"] == 137
    assert executed(ended | {"exit_code": None, "signal": None})["exitCode"] == -1
    assert executed(ended | {"exit_code": 3})["exitCode"] == 3


def test_the_states_of_a_sandbox():
    session = {
        "id": "sess_a", "name": None, "language": "node", "metadata": {}, "limits": {"cpus": 1, "memory_mb": 512},
        "created_at": "x", "end_reason": None,
    }  # fmt: skip
    for status, expected in (
        ("creating", "creating"),
        ("ready", "running"),
        ("busy", "running"),
        ("frozen", "running"),
        ("paused", "paused"),
    ):
        found = sandbox(session | {"status": status})
        assert (found["status"], found["sshReady"]) == (expected, expected == "running")
    assert sandbox(session | {"status": "ended", "end_reason": "oom"})["status"] == "failed"
    assert sandbox(session | {"status": "ended", "end_reason": "idle"})["status"] == "destroyed"
    assert (found["template"], found["tags"], found["id"]) == ("node", [], "sandbox-a")
    assert sandbox(session | {"status": "ready", "metadata": {"runtools.tags": "{"}})["tags"] == []

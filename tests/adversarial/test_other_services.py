"""Requests that mean harm, in the shapes of runakode and RunTools: each is a clear 4xx in the shape of that service."""

from __future__ import annotations

import json

import pytest

from tests.adversarial.test_demands import TELLTALE

DEEP = b'{"runtime":"bash","files":' * 2_000
NAMES = ("../sh", "__proto__", "Python\n", "bash\x00", "bash;id", "x" * 100_000, "<script>", "%s", "{}", "/bin/sh")
WRONG = (None, 1, 1.5, [], {}, True)


def runakode(**fields):
    return {"language": "bash", "source_code": "echo hi", **fields}


def runtools(**fields):
    return {"runtime": "python", "code": "print(1)", **fields}


def runtools_files(files, **fields):
    return {"runtime": "python", "files": files, **fields}


RUNAKODE = {
    **{f"language {name[:20]!r}": runakode(language=name) for name in NAMES},
    **{f"language {value!r}": runakode(language=value) for value in WRONG},
    **{f"source {value!r}": runakode(source_code=value) for value in (*WRONG, "")},
    "source too long": runakode(source_code="x" * (1 << 20) + "y"),
    "a lone surrogate": b'{"language":"bash","source_code":"\\ud800"}',
    "NaN": b'{"language":"bash","source_code":NaN}',
    "nested too deep": DEEP,
    "many values": b'{"x":[' + b"1," * 1_000_000 + b'1],"language":"bash","source_code":"1"}',
    "not UTF-8": b"\xff\xfe",
    "two objects": b"{}{}",
}
RUNTOOLS = {
    **{f"runtime {name[:20]!r}": runtools(runtime=name) for name in NAMES},
    **{f"runtime {value!r}": runtools(runtime=value) for value in WRONG},
    **{f"language {name[:20]!r}": {"language": name, "code": "1"} for name in NAMES},
    **{f"timeout {value!r}": runtools(timeout=value) for value in ("1", True, [], 0, -1, 10**9, 2**63, 2**64, 1.5)},
    **{f"files {value!r}": runtools_files(value) for value in ("x", 1, [1], [{}], {"a": 1}, {"a": None}, [["a", "b"]])},
    **{
        f"path {path[:20]!r}": runtools_files({path: ""})
        for path in ("../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "a\x00b", "x" * 300, "a/" * 600 + "b")
    },
    "a file where a directory is": runtools_files({"a": "", "a/b": ""}),
    "the same name twice": runtools_files([{"name": "a", "content": ""}, {"name": "a", "content": ""}]),
    "too many files": runtools_files({f"f{number}": "" for number in range(65)}),
    "the entry file beside code": runtools(files={"main.py": ""}),
    "an entrypoint outside": runtools_files({"a": ""}, entrypoint="../../bin/sh"),
    **{f"version {value!r}": {"language": "bash", "code": "1", "version": value} for value in ("9", "^5", "(a+)+$", 5, [])},
    **{f"env {value!r}": runtools(env=value) for value in ([], "A=B", {"A=B": "x"}, {"": "x"}, {"A": "x\x00"}, {"A": None})},
    **{f"args {value!r}": runtools(args=value) for value in ("a", {}, [1], [None], ["a\x00b"], ["x"] * 65)},
    "stdin too long": runtools(stdin="x" * ((8 << 20) + 1)),
    "a session of somebody": {"language": "bash", "code": "1", "session_id": "sess-1"},
    "nested too deep": DEEP,
    "an array": b"[]",
}  # fmt: skip

#: Of RunTools' sandboxes.
SANDBOXES = {
    **{f"template {name[:20]!r}": {"template": name} for name in NAMES},
    **{f"template {value!r}": {"template": value} for value in (1, 1.5, [], {}, True)},
    **{f"name {name[:20]!r}": {"name": name} for name in ("a b", "", "x" * 129, "\u0000", "\u202e", "a\n")},
    **{f"memory {text!r}": {"resources": {"memory": text}} for text in ("", "0MB", "-1GB", "9" * 400 + "GB", "1e9GB", "1 TB", "１GB")},
    **{f"resources {value!r}": {"resources": value} for value in ("4GB", [], 1, {"vcpus": "2"}, {"vcpus": -1}, {"memory": 1})},
    **{f"idle {value!r}": {"idleTimeout": value} for value in (-1, 1.5, "600", True, [])},
    **{f"tags {value!r}": {"tags": value} for value in ("ci", 1, [None], {"a": 1}, ["x" * 5000], {"x" * 600: "y"})},
    **{f"env {value!r}": {"env": value} for value in ([], {"A=B": "x"}, {"": "x"}, {"A": "x\x00"}, {"A": None}, {"A": "x" * 5000})},
    "too much metadata": {"metadata": {f"m{number}": "" for number in range(15)}},
    "a mount of the host": {"mounts": [{"workspaceId": "..", "path": "/etc"}]},
    "a key of SSH": {"sshKeys": ["ssh-ed25519 AAAA"]},
    "a password": {"rootPassword": "x"},
    "nested too deep": b'{"resources":' * 2_000,
    "an array": b"[]",
    "not UTF-8": b"\xff\xfe",
}  # fmt: skip
COMMANDS = {
    **{f"command {value!r}": {"command": value} for value in (None, "", 1, [], ["ls"], {}, "a\x00b")},
    "a long command": {"command": "x" * 300_000},
    **{f"timeout {value!r}": {"command": "ls", "timeout": value} for value in (0, -1, 1.5, "1", True, 2**63, 10**30, 3_600_001)},
    **{f"cwd {value!r}": {"command": "ls", "cwd": value} for value in (1, [], "a\x00", "/" + "x" * 2000)},
    **{f"env {value!r}": {"command": "ls", "env": value} for value in ([], {"A=B": "x"}, {"A": 1})},
    "nested too deep": b'{"env":' * 2_000,
    "an array": b"[]",
}  # fmt: skip


def send(service, path, body):
    return service.post(path, data=body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize("name", RUNAKODE)
def test_runakode(service, name):
    reply = send(service, "/api", RUNAKODE[name])
    assert reply.status == 400, (reply.status, reply.raw[:300])
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    text = reply.raw.decode()
    assert text.endswith("\n")
    assert len(text) < 300
    assert not TELLTALE.search(text), text


@pytest.mark.parametrize("name", RUNTOOLS)
def test_runtools(service, name):
    reply = send(service, "/v1/execute", RUNTOOLS[name])
    assert reply.status == 400, (reply.status, reply.raw[:300])
    error = reply.body["error"]
    assert (list(error), error["code"]) == (["code", "message", "requestId"], "invalid_request")
    assert 0 < len(error["message"]) < 300
    # The name of a file of the client's own may end in it.
    assert not TELLTALE.search(error["message"].replace("main.py", "")), error


@pytest.mark.parametrize("name", SANDBOXES)
def test_sandboxes_of_runtools(service, name):
    check_refusal(send(service, "/v1/sandboxes", SANDBOXES[name]))


@pytest.fixture(scope="module")
def sandbox(service):
    made = service.post("/v1/sandboxes", json={"template": "bash", "resources": {"memory": "128MB"}})
    assert made.status == 201, made.raw
    yield made.body["data"]["id"]
    service.request("DELETE", f"/v1/sandboxes/{made.body['data']['id']}")


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_of_runtools(service, sandbox, name):
    check_refusal(send(service, f"/v1/sandboxes/{sandbox}/exec", COMMANDS[name]))


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e", "sandbox-", "sandbox-%00", "x" * 5000, "%ff", "sess_%2f", "*", "'--", "sandbox-" + "a" * 26],
)
def test_names_of_sandboxes(service, sandbox, name):
    """None of them is one, and none of them ends one."""
    for method, path, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/exec", b'{"command":"id"}')):
        reply = service.request(method, f"/v1/sandboxes/{name}{path}", body, {"Content-Type": "application/json"})
        assert reply.status in (400, 404, 405), reply.raw[:300]
        assert not TELLTALE.search(reply.raw.decode(errors="replace")), reply.raw[:300]
    assert service.get(f"/v1/sandboxes/{sandbox}").body["data"]["status"] == "running"


def check_refusal(reply):
    assert reply.status == 400, (reply.status, reply.raw[:300])
    error = reply.body["error"]
    assert (list(error), error["code"]) == (["code", "message", "requestId"], "invalid_request")
    assert 0 < len(error["message"]) < 300
    assert not TELLTALE.search(error["message"]), error

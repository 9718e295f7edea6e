"""Requests that mean harm, in the shapes of runakode, RunTools and tinirun: each is a clear 4xx in the shape of that service."""

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


def tinirun(**fields):
    return {"lang": "bash", "code": "echo hi", **fields}


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

TINIRUN = {
    **{f"lang {name[:20]!r}": tinirun(lang=name) for name in NAMES},
    **{f"lang {value!r}": tinirun(lang=value) for value in WRONG},
    **{f"code {value!r}": tinirun(code=value) for value in WRONG},
    **{f"timeout {value!r}": tinirun(timeout=value) for value in ("60", True, [], 4, -1, 10**9, 2**63, 2**64, 5.5)},
    **{f"memory {value!r}": tinirun(mem_limit_mb=value) for value in ("1", True, [], 0, -1, 2**63, 1.5)},
    **{f"cpus {value!r}": tinirun(cpu_limit=value) for value in ("1", True, [], 0, -1, 1e308, 2**64)},
    **{f"files {value!r}": tinirun(files=value) for value in ("x", 1, [1], [{}], {"a": ""}, [["a", "b"]])},
    **{
        f"path {path[:20]!r}": tinirun(files=[{"path": path, "content": ""}])
        for path in ("../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "a\x00b", "x" * 300, "a/" * 600 + "b", "Dockerfile")
    },
    **{f"content {text!r}": tinirun(files=[{"path": "a", "content": text}]) for text in ("%", "a", "=", "YQ==\n!", "é")},
    "the same name twice": tinirun(files=[{"path": "a", "content": ""}, {"path": "a", "content": ""}]),
    "a file where a directory is": tinirun(files=[{"path": "a", "content": ""}, {"path": "a/b", "content": ""}]),
    "too many files": tinirun(files=[{"path": f"f{number}", "content": ""} for number in range(51)]),
    **{
        f"dependency {text[:20]!r}": tinirun(dependencies=[text])
        for text in ("-r/etc/passwd", "--index-url=http://x", "a;id", "$(id)", "`id`", "a\nb", "../x", "git+https://x/y", "http://x", "x" * 300, "a b\x00", "")
    },
    "too many dependencies": tinirun(dependencies=[f"a{number}" for number in range(300)]),
    "source too long": tinirun(code="x" * ((1 << 20) + 1)),
    "a lone surrogate": b'{"lang":"bash","code":"\\ud800"}',
    "nested too deep": b'{"lang":"bash","files":' * 2_000,
    "an array": b"[]",
    "not UTF-8": b"\xff\xfe",
}  # fmt: skip
CREATED = {
    **{
        f"name {name[:20]!r}": {"name": name, "language": "python"}
        for name in (*NAMES[:1], *NAMES[2:], "", "a1", "x" * 51, "\u202e")
    },
    **{f"name {value!r}": {"name": value, "language": "python"} for value in WRONG},
    **{f"language {value!r}": {"name": "a", "language": value} for value in (*WRONG, *NAMES[:3])},
    "nested too deep": b'{"name":' * 2_000,
    "an array": b"[]",
}
UPDATED = {
    **{f"code {value!r}": {"code": value} for value in WRONG},
    **{f"description {value!r}": {"code": "", "description": value} for value in (1, [], {}, "x" * 100_000)},
    **{
        f"dependencies {value!r}": {"code": "", "dependencies": value}
        for value in ("a", 1, [1], [None], ["$(id)"], ["-e ."])
    },
    "source too long": {"code": "x" * (17 << 20)},
}
CALLED = {
    **{f"input {value!r}": {"input": value} for value in WRONG},
    "input too long": {"input": "x" * ((1 << 20) + 1)},
    **{f"timeout {value!r}": {"input": "", "timeout": value} for value in ("60", True, 4, 301, 2**63)},
    "nested too deep": b'{"input":' * 2_000,
}

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


@pytest.mark.parametrize("name", TINIRUN)
def test_tinirun(service, name):
    check_tinirun(send(service, "/api/code/run", TINIRUN[name]))


@pytest.mark.parametrize("name", CREATED)
def test_new_functions_of_tinirun(service, name):
    check_tinirun(send(service, "/api/function", CREATED[name]))


@pytest.fixture(scope="module")
def function(service):
    body, headers = {"name": "of-the-suite", "language": "bash"}, {"Accept": "text/event-stream"}
    made = service.post("/api/function", json=body, headers=headers)
    assert made.status == 200, made.raw
    yield "/api/function/of-the-suite"
    service.request("DELETE", "/v1/functions/of-the-suite")


@pytest.mark.parametrize("name", UPDATED)
def test_changed_functions_of_tinirun(service, function, name):
    check_tinirun(send(service, function, UPDATED[name]))


@pytest.mark.parametrize("name", CALLED)
@pytest.mark.parametrize("path", ["/run", "/run/stream"])
def test_called_functions_of_tinirun(service, function, path, name):
    check_tinirun(send(service, function + path, CALLED[name]))


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "%00", "x" * 5000, "%ff", "of-the-suite%2f", "*", "'--", "of-the-suite@1"]
)
def test_names_of_functions_of_tinirun(service, function, name):
    """None of them is one, and none of them changes one."""
    for method, path, body in (
        ("GET", "/detail", None),
        ("POST", "", b'{"code":"1"}'),
        ("POST", "/run", b'{"input":""}'),
    ):
        reply = service.request(method, f"/api/function/{name}{path}", body, {"Content-Type": "application/json"})
        assert reply.status in (400, 404, 405), reply.raw[:300]
        assert not TELLTALE.search(reply.raw.decode(errors="replace")), reply.raw[:300]
    assert service.get(f"{function}/info").body["version"] == "1"


def check_tinirun(reply):
    """A clear 4xx: a message in JSON, or a text about packages."""
    assert reply.status in (400, 413), (reply.status, reply.raw[:300])
    if reply.headers["content-type"] == "application/json":
        assert list(reply.body) == ["message"]
        message = reply.body["message"]
    else:
        message = reply.raw.decode()
        assert message.startswith("dependencies.0: "), message
    assert 0 < len(message) < 300
    assert not TELLTALE.search(message.replace("Dockerfile", "")), message


def check_refusal(reply):
    assert reply.status == 400, (reply.status, reply.raw[:300])
    error = reply.body["error"]
    assert (list(error), error["code"]) == (["code", "message", "requestId"], "invalid_request")
    assert 0 < len(error["message"]) < 300
    assert not TELLTALE.search(error["message"]), error

"""Hostile handlers and requests: outputs without end, processes that stay, forged outputs, names and schemas."""

from __future__ import annotations

import json
import os
import time

import pytest

from protocol.function import MAX_INPUT_BYTES
from tests.support.slow_machine import TIME_FACTOR

JSON = {"Content-Type": "application/json"}
OUTPUT = r"'/work/outputs/\x01output'"
#: Handlers, with the status of a call, and whether it has an output.
HANDLERS = {
    "returns 100 MB": ("def run(_): return 'x' * 100_000_000", None, False),
    "writes an output of 100 MB": (
        f"import os\ndef run(_):\n    open({OUTPUT}, 'wb').truncate(100 << 20)\n    os._exit(0)", "failed", False,
    ),
    "writes an output of 2 MB": (
        f"import os\ndef run(_):\n    open({OUTPUT}, 'w').write('\"' + 'x' * 2_000_000 + '\"')\n    os._exit(0)", "failed", False,
    ),
    "never returns": ("def run(_):\n    while True: pass", "timeout", False),
    "sleeps with every signal ignored": (
        "import signal, time\ndef run(_):\n    for n in range(1, 32):\n        try: signal.signal(n, signal.SIG_IGN)\n"
        "        except OSError: pass\n    time.sleep(99)", "timeout", False,
    ),
    "prints what looks like an output": ("def run(_): print('{\"output\": 1}\\n\\x01output')", "succeeded", None),
    "exits with 0": ("import sys\ndef run(_): sys.exit(0)", "failed", False),
    "exits without a word": ("import os\ndef run(_): os._exit(0)", "failed", False),
    "kills itself": ("import os\ndef run(_): os.kill(os.getpid(), 9)", "failed", False),
    "forks children that stay": (
        "import os, time\ndef run(_):\n    for _ in range(20):\n        if os.fork() == 0: time.sleep(99)\n    return 1", "succeeded", True,
    ),
    "forks without end": ("import os\ndef run(_):\n    while True: os.fork()", None, None),
    "takes all memory": ("def run(_): return len(bytearray(1 << 31))", None, False),
    "removes the directory": ("import shutil\ndef run(_): shutil.rmtree('/work/outputs')", "failed", False),
    "makes a link of the output": (
        f"import os\ndef run(_):\n    os.symlink('/etc/passwd', {OUTPUT})\n    os._exit(0)", "failed", False,
    ),
    "makes a pipe of the output": (f"import os\ndef run(_):\n    os.mkfifo({OUTPUT})\n    os._exit(0)", "failed", False),
    "makes a directory of the output": (f"import os\ndef run(_):\n    os.mkdir({OUTPUT})\n    os._exit(0)", "failed", False),
    "links the outputs elsewhere": (
        "import os\ndef run(_):\n    os.rmdir('/work/outputs')\n    os.symlink('/etc', '/work/outputs')\n    os._exit(0)", "failed", False,
    ),
    "writes what is no JSON": (f"import os\ndef run(_):\n    open({OUTPUT}, 'wb').write(b'\\xff{{')\n    os._exit(0)", "failed", False),
    "writes brackets without end": (f"import os\ndef run(_):\n    open({OUTPUT}, 'w').write('[' * 900_000)\n    os._exit(0)", "failed", False),
    "writes its own output": (f"import os\ndef run(_):\n    open({OUTPUT}, 'w').write('7')\n    os._exit(0)", "succeeded", True),
    "returns itself": ("def run(_):\n    a = []\n    a.append(a)\n    return a", "failed", False),
    "returns what is nested deep": ("def run(_):\n    a = 1\n    for _ in range(5000): a = [a]\n    return a", "failed", False),
    "returns no number": ("def run(_): return float('nan')", "failed", False),
    "returns half a character": ("def run(_): return '\\ud800'", "failed", False),
    "leaves threads": ("import threading, time\ndef run(_):\n    threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n    return 1", "succeeded", True),
}  # fmt: skip


@pytest.fixture
def name(service):
    made = f"evil-{os.getpid()}-{time.monotonic_ns() % 10**9}"
    yield made
    service.request("DELETE", f"/v1/functions/{made}")


def deploy(service, name, code, language="python", **fields):
    body = json.dumps({"language": language, "code": code, **fields}).encode()
    return service.request("PUT", f"/v1/functions/{name}", body, JSON)


@pytest.mark.parametrize("case", HANDLERS)
def test_a_hostile_handler_costs_its_own_call_alone(service, invariants, name, case):
    code, status, has_output = HANDLERS[case]
    assert deploy(service, name, code).body["state"] == "ready"
    limits = {"timeout_ms": 1000, "memory_mb": 400}
    began = time.monotonic()
    reply = service.post(f"/v1/functions/{name}/runs", json={"input": None, "limits": limits})
    run = reply.body
    assert (reply.status, time.monotonic() - began < 8 * TIME_FACTOR) == (200, True), run
    assert status is None or run["status"] == status, (run["status"], run["stderr"][-500:])
    assert has_output is None or (run["output"] is not None) == has_output
    assert run["artifacts"] == []
    assert len(reply.raw) < 2 * MAX_INPUT_BYTES


BUILDS = {
    "python": "import os\nwhile True: os.fork()",
    "node": "const a = []; for (;;) a.push(new Array(1e6).fill(1.5));",
    "bash": "x=$(" * 2000,
}


@pytest.mark.parametrize("language", BUILDS)
def test_a_hostile_build_fails(service, invariants, name, language):
    made = deploy(service, name, BUILDS[language], language, limits={"pids": 32})
    assert (made.status, made.body["state"]) == (201, "failed")
    assert service.post(f"/v1/functions/{name}/runs", json={}).status == 409


def test_a_build_leaves_no_file_in_the_place_of_a_program(service, invariants, name):
    # The program's own start-up code runs in its build: it spoils its own function at most.
    code = (
        'package main\n\nimport "os"\n\nfunc init() { os.WriteFile("/work/outputs/a", []byte("x"), 0o644) }\n'
        "func Run(i string) (string, error) { return i, nil }\n"
    )
    made = deploy(service, name, code, "go").body
    assert made["state"] == "failed"
    assert "no program" in made["log"]


@pytest.mark.parametrize(
    "text", ["..", "%2e%2e", "..%2f..", "a%2Fb", "a%00b", "%ff", "a.b", "x" * 65, "a@1", "-%0a"]
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "POST"])
def test_a_name_that_is_none_reaches_nothing(service, invariants, text, method):
    path = f"/v1/functions/{text}" + ("/runs" if method == "POST" else "")
    body = {"PUT": b'{"language":"bash","code":"cat"}', "POST": b"{}"}.get(method)
    reply = service.request(method, path, body, JSON if body else None)
    assert reply.status in (400, 404, 405), (reply.status, reply.body)
    assert reply.body["error"]["code"] in ("invalid_value", "function_not_found", "not_found", "method_not_allowed")


def test_an_input_of_the_largest_size_is_taken(service, invariants, name):
    assert deploy(service, name, "def run(i): return len(i)").body["state"] == "ready"
    for value, size in (("x" * (MAX_INPUT_BYTES - 2), MAX_INPUT_BYTES - 2), ([0] * 500_000, 500_000)):
        body = json.dumps({"input": value}, separators=(",", ":")).encode()
        assert service.post(f"/v1/functions/{name}/runs", data=body).body["output"] == size
    reply = service.post(f"/v1/functions/{name}/runs", json={"input": "x" * MAX_INPUT_BYTES})
    assert (reply.status, reply.body["error"]["code"]) == (400, "too_long")


def test_a_schema_that_takes_for_ever_is_a_400(service, invariants, name):
    doubled = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(50)} | {"l50": {}}
    schema = {"$ref": "#/$defs/l0", "$defs": doubled}
    assert deploy(service, name, "def run(i): return i", input_schema=schema).body["state"] == "ready"
    began = time.monotonic()
    reply = service.post(f"/v1/functions/{name}/runs", json={"input": 1})
    assert (reply.status, reply.body["error"]["code"]) == (400, "invalid_input")
    assert time.monotonic() - began < 4 * TIME_FACTOR
    for bad in ({"$ref": "http://127.0.0.1:1/x"}, {"$ref": "file:///etc/passwd"}, {"pattern": "(a|b)\\1"}):
        reply = deploy(service, name, "def run(i): return i", input_schema=bad)
        assert (reply.status, reply.body["error"]["param"]) == (400, "input_schema")


def test_the_environment_of_another_function_is_out_of_reach(service, invariants, name):
    code = "import os\ndef run(_): return sorted(os.environ), sorted(os.listdir('/work')), os.getuid()"
    assert deploy(service, name, code, env={"SECRET": "x"}).body["state"] == "ready"
    other = f"{name}-2"
    try:
        assert deploy(service, other, code).body["state"] == "ready"
        names, found, uid = service.post(f"/v1/functions/{other}/runs", json={}).body["output"]
        assert "SECRET" not in names
        assert found == [".runyard", "handler.py", "inputs", "main.py", "outputs"]
        assert uid != 0
    finally:
        service.request("DELETE", f"/v1/functions/{other}")

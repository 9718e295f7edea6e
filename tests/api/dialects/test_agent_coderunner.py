"""agent-coderunner's API over HTTP on the real service."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from contextlib import suppress

import pytest

from tests.api.dialects.agent_coderunner_client import Coderunner, CoderunnerError
from tests.support.slow_machine import require_language

GATEWAY = "/v1/agent-coderunner"
#: As its page has the request, and as its MCP client sends it.
DOCUMENTED = b'{"language":"python","code":"print(sum(range(1000)))","timeout":10000,"stdin":""}'
FROM_AGENTS = b'{"code":"console.log(6 * 7)","language":"javascript"}'
#: Keys and addresses of this test alone: others may have used up those of this machine.
ADDRESS = {"X-Forwarded-For": f"198.19.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"}


def exchange(service, head, body=b""):
    """Send these bytes; the status and the body of the answer as they came."""
    lines = head.encode() + f"\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection((service.host, service.port), timeout=60) as connection:
        connection.sendall(lines + body)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    answer_head, _, answer = received.partition(b"\r\n\r\n")
    return int(answer_head.split(b" ")[1]), answer


@pytest.fixture(scope="module")
def client(service):
    return Coderunner(service.host, service.port, service.token)


@pytest.fixture
def session(client):
    """Creates sessions of a language, and ends them."""
    made = []

    def one(language):
        require_language({"javascript": "node"}.get(language, language))
        made.append(client.session(language))
        return made[-1]

    yield one
    for found in made:
        with suppress(CoderunnerError):  # of one that the test has ended
            found.end()


def test_the_documented_request(service):
    head = (
        f"POST /api/execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token}\r\n"
        "Content-Type: application/json"
    )
    status, raw = exchange(service, head, DOCUMENTED)
    assert status == 200, raw
    body = json.loads(raw)
    assert re.fullmatch(r"exec-[A-Za-z0-9]{28}", body["id"])
    assert raw == (
        b'{"id":"%s","exitCode":0,"stdout":"499500","stderr":"","duration":%d,"timedOut":false,"language":"python"}'
        % (body["id"].encode(), body["duration"])
    )
    run = service.get(f"/v1/runs/{body['id'].replace('exec-', 'run_')}").body
    assert (run["stdout"], run["usage"]["wall_ms"]) == ("499500\n", body["duration"])
    limits = {name: run["limits"][name] for name in ("timeout_ms", "memory_mb", "pids", "max_output_bytes")}
    assert limits == {"timeout_ms": 10_000, "memory_mb": 256, "pids": 64, "max_output_bytes": 524_288}


def test_what_its_client_for_agents_does(service):
    """It makes a key, and calls the gateway with it."""
    status, raw = exchange(
        service, f"POST /api/keys/create HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {ADDRESS['X-Forwarded-For']}"
    )
    assert status == 200, raw
    key = json.loads(raw)["key"]
    head = (
        f"POST {GATEWAY}/api/execute HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}"
    )
    status, raw = exchange(service, head, FROM_AGENTS)
    assert (status, json.loads(raw)["stdout"], json.loads(raw)["language"]) == (200, "42", "javascript")


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("python", "import sys\nprint(input(), sys.version_info[0])", "in 3"),
        ("javascript", "process.stdin.on('data', d => console.log(`${d}`.trim(), 3))", "in 3"),
        ("typescript", "const n: number = 3\nprocess.stdin.on('data', d => console.log(`${d}`.trim(), n))", "in 3"),
        ("bash", "read x; echo $x 3", "in 3"),
    ],
)
def test_each_language(client, language, code, expected):
    require_language({"javascript": "node"}.get(language, language))
    for made in (client.execute(code, language, stdin="in\n"), client.run(language, code, stdin="in\n")):
        assert (made["stdout"], made["exitCode"], made["stderr"]) == (expected, 0, ""), made
        assert made["language"] == language
    assert language in [row["id"] for row in client.languages()]


def test_the_default_language_and_a_program_that_fails(client):
    made = client.execute("console.error('no'); process.exit(3)")
    assert (made["language"], made["exitCode"], made["stderr"]) == ("javascript", 3, "no\n")


def test_time_memory_and_output_have_their_bounds(client):
    late = client.execute("echo begun; sleep 60", "bash", timeout=600)
    assert (late["stdout"], late["timedOut"], late["exitCode"]) == ("begun", True, 137)
    assert 600 <= late["duration"] < 15_000
    with pytest.raises(CoderunnerError) as refused:
        client.execute("1", "python", timeout=30_001)
    assert (refused.value.status, refused.value.body["error"]) == (400, "bad_request")
    assert "30000" in refused.value.body["message"]
    cut = client.execute("print('x' * 2_000_000)", "python")
    assert (cut["truncated"], len(cut["stdout"])) == (True, 524_288)
    assert client.execute("x = bytearray(400 << 20)", "python")["exitCode"] != 0
    many = "import threading, time\nfor n in range(200): threading.Thread(target=time.sleep, args=(9,)).start()"
    assert client.execute(many, "python")["exitCode"] != 0


def test_a_key_in_each_place_and_none(service):
    job = b'{"language":"bash","code":"echo hi"}'
    for path, headers in (
        ("/api/execute", {"Authorization": f"Bearer {service.token}"}),
        ("/api/execute", {"X-API-Key": service.token}),
        (f"/api/execute?key={service.token}", {}),
        ("/api/execute", ADDRESS),
    ):
        reply = service.request("POST", path, job, {"Content-Type": "application/json", **headers}, token=None)
        assert (reply.status, reply.body["stdout"]) == (200, "hi"), reply.raw
    reply = service.request("POST", "/api/execute?key=wrong", job, {"Content-Type": "application/json"}, token=None)
    assert (reply.status, reply.body["error"]) == (401, "unauthorized")
    reply = service.request("POST", "/api/sessions", b"{}", ADDRESS, token=None)
    assert (reply.status, reply.body["error"]) == (401, "unauthorized")
    assert reply.body["message"].startswith("Sessions need a key")


def test_a_large_file_with_the_key_in_the_query(service, session):
    """Its body is larger than that of a stranger may be, so the server must have seen whose it is."""
    path = f"/api/sessions/{session('bash').id}/files/big.bin"
    data = os.urandom(10 * 1024 * 1024)
    reply = service.request("PUT", f"{path}?key={service.token}", data, token=None)
    assert (reply.status, reply.body["size"]) == (200, len(data)), reply.raw
    assert service.request("GET", f"{path}?key={service.token}", token=None).raw == data
    reply = service.request("PUT", f"{path}?key={service.token}", data + b"x", token=None)
    assert (reply.status, reply.body["error"]) == (413, "payload_too_large")
    assert "10485760" in reply.body["message"]
    assert service.request("PUT", f"{path}?key=wrong", b"x", token=None).status == 401


def test_no_key_of_a_query_comes_into_the_log(service):
    """Whatever its status, at whatever path, and if the request is none at all."""
    needle = "needle-of-a-key-in-a-query"
    paths = [
        "/api/execute",
        "/api/run/bash",
        "/api/languages",
        "/api/executions",
        "/api/sessions/sess-x/files/a",
        "/api/nothing",
    ]
    for path in paths:
        for base in ("", GATEWAY):
            service.get(f"{base}{path}?code=echo&key={needle}", token=None)
    service.get(f"/api/executions?key={service.token}", token=None)
    service.get(f"/api/run/bash?code=echo&key={service.token}", token=None)
    service.request("POST", f"/api/keys?key={needle}", headers=ADDRESS, token=None)
    service.post(f"/api/execute?key={needle}", data=b"{", token=None)
    exchange(service, f"GET /api/run/bash?key={needle} HTTP/9.9\r\nHost: x")
    exchange(service, f"GET /api/run/bash?key={needle}&code={'x' * 9000} HTTP/1.1\r\nHost: x")
    done = service.get("/v1/health", headers={"x-request-id": "after-the-needles"}, token=None)
    assert done.status == 200
    log = service.state / "log/service.log"
    deadline = time.monotonic() + 20
    while "after-the-needles" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    text = log.read_text()
    assert needle not in text
    assert f"key={service.token}" not in text
    assert "/api/run/<language>" in text


# -- sessions --------------------------------------------------------------------------------------------

CARRIED = {
    "python": ("x = 42", "print(x * 2)", "raise ValueError('no')", "Python "),
    "javascript": ("let x = 42", "console.log(x * 2)", "throw new Error('no')", "JavaScript (Node.js "),
    "typescript": ("let x: number = 42", "console.log(x * 2)", "throw new Error('no')", "TypeScript (Node.js "),
    "bash": ("x=42", "echo $((x * 2))", "ls /no; false", "Bash "),
}


@pytest.mark.parametrize("language", CARRIED)
def test_variables_and_files_carry_over(session, language):
    first, second, wrong, shown = CARRIED[language]
    found = session(language)
    assert found.language.startswith(shown)
    made = found.execute(first)
    assert (made["stdout"], made["exitCode"], made["language"]) == ("", 0, language), made
    done = found.execute(second)
    assert (done["stdout"], done["exitCode"], done["timedOut"]) == ("84", 0, False), done
    failed = found.execute(wrong)
    assert failed["exitCode"] != 0, failed
    assert "no" in failed["stderr"], failed
    found.put("in.txt", b"from outside")
    read = {
        "python": "print(open('in.txt').read()); open('out.txt', 'w').write('made')",
        "bash": "cat in.txt; printf made > out.txt",
    }.get(
        language,
        "const fs = require('fs'); console.log(`${fs.readFileSync('in.txt')}`); fs.writeFileSync('out.txt', 'made')",
    )
    assert found.execute(read)["stdout"] == "from outside"
    assert found.get("out.txt") == b"made"
    assert found.execute(second)["stdout"] == "84"


def test_an_execution_in_a_session_has_its_input_and_its_time(session):
    found = session("python")
    assert found.execute("print(input() + '!')", stdin="hi\n")["stdout"] == "hi!"
    found.execute("x = 1")
    late = found.execute("import time\nprint('begun')\ntime.sleep(60)", timeout=500)
    assert (late["stdout"], late["timedOut"]) == ("begun", True), late
    assert late["exitCode"] != 0
    assert found.execute("print(x)")["stdout"] == "1"


def test_files_of_a_session(session, client):
    found = session("bash")
    made = found.put("data/été 1.csv", b"a,b\n")
    assert (made["path"], made["type"], made["size"]) == ("data/été 1.csv", "file", 4)
    found.put("empty", b"")
    files = found.files()
    assert (files["data/été 1.csv"], files["empty"]) == (4, 0)
    assert "data" in files
    assert found.execute("cat data/*.csv")["stdout"] == "a,b"
    found.put("data/été 1.csv", b"c\n")
    assert found.get("data/été 1.csv") == b"c\n"
    assert found.remove("data/été 1.csv") == {"path": "data/été 1.csv", "deleted": True}
    for call in (lambda: found.get("data/été 1.csv"), lambda: found.remove("nothing"), lambda: found.get("a/b/c")):
        with pytest.raises(CoderunnerError) as refused:
            call()
        assert (refused.value.status, refused.value.body["error"]) == (404, "not_found")
    with pytest.raises(CoderunnerError) as refused:
        found.get("data")
    assert (refused.value.status, refused.value.body["error"]) == (409, "conflict")
    found.end()
    for call in (lambda: found.get("empty"), lambda: found.execute("ls"), found.end):
        with pytest.raises(CoderunnerError) as refused:
            call()
        assert (refused.value.status, refused.value.body["error"]) == (404, "not_found")


def test_sessions_and_executions_are_found_again_by_their_key_alone(service, session, client):
    found = session("bash")
    made = found.execute("echo kept")
    reply = service.get(f"/api/sessions/{found.id}").body
    assert (reply["sessionId"], reply["language"], reply["executions"]) == (found.id, found.language, 1)
    assert found.id in [row["sessionId"] for row in service.get("/api/sessions?limit=100").body["sessions"]]
    one = client.execution(made["id"])
    assert {name: one[name] for name in made} == made
    assert (one["sessionId"], one["status"]) == (found.id, "succeeded")
    assert made["id"] in [row["id"] for row in client.executions()]
    within = service.get(f"/api/executions?sessionId={found.id}").body["executions"]
    assert [row["id"] for row in within] == [made["id"]]
    other = Coderunner(service.host, service.port, service.other_token)
    for path in (f"/api/executions/{made['id']}", f"/api/sessions/{found.id}", f"/api/sessions/{found.id}/files"):
        with pytest.raises(CoderunnerError) as refused:
            other.ask("GET", path)
        assert (refused.value.status, refused.value.body["error"]) == (404, "not_found")
    assert made["id"] not in [row["id"] for row in other.executions()]


def test_a_key_of_ones_own_has_fifty_executions(service):
    """How they are used up is a unit test's: ten a minute are too few for this one."""
    address = {"X-Forwarded-For": f"198.18.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"}
    made = service.request("POST", "/api/keys", headers=address, token=None)
    assert made.status == 200, made.raw
    me = service.get("/v1/keys/me", token=made.body["apiKey"]).body
    assert (me["plan"], me["runs_left"]) == ("free", 50)
    key = {"X-API-Key": made.body["apiKey"]}
    reply = service.post("/api/execute", {"language": "bash", "code": "echo"}, key, token=None)
    assert (reply.status, reply.headers["x-ratelimit-limit-requests"]) == (200, "10")
    assert service.get("/v1/keys/me", token=made.body["apiKey"]).body["runs_left"] == 49

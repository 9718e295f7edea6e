"""tinirun's `POST /api/code/run` over HTTP on the real service."""

from __future__ import annotations

import base64
import http.client
import json
import time

import pytest

from tests.api.dialects.tinirun_client import Tinirun
from tests.support.slow_machine import require_language

#: As its page has the request.
DOCUMENTED = (
    b'{"code":"print(\'Hello\')","lang":"python","dependencies":[],"files":[],"timeout":60,"mem_limit_mb":256,'
    b'"cpu_limit":0.5}'
)


@pytest.fixture(scope="module")
def client(service):
    return Tinirun(service)


def test_the_documented_request(client):
    stream = client.post("/api/code/run", DOCUMENTED)
    assert (stream.status, stream.content_type) == (200, "application/jsonl")
    assert stream.chunks[0] == {"event": "info", "data": "Checking base image..."}
    assert stream.said("stdout") == "Hello\n"
    assert stream.last == {
        "event": "result",
        "data": {"stdout": "Hello\n", "stderr": "", "exit_code": 0, "timeout": False},
    }


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "text/event-stream; charset=utf-8"),
        ("application/json;q=0.9, text/event-stream", "text/event-stream; charset=utf-8"),
        ("*/*", "application/jsonl"),
        ("application/json", "application/jsonl"),
        ("application/json-lines", "application/jsonl"),
        ("application/x-ndjson", "application/jsonl"),
        ("text/html, text/event-stream;q=0", "application/jsonl"),
    ],
)
def test_events_if_they_are_asked_for_and_else_lines(client, accept, kind):
    stream = client.post("/api/code/run", DOCUMENTED, accept=accept)
    assert stream.content_type == kind
    assert stream.result["stdout"] == "Hello\n"


PROGRAMS = {
    "bash": 'echo "$((40+2))"; echo no >&2; exit 3',
    "go": 'package main\nimport ("fmt"; "os")\nfunc main() { fmt.Println(42); fmt.Fprintln(os.Stderr, "no"); os.Exit(3) }',
    "javascript": "console.log(42); console.error('no'); process.exit(3)",
    "python": "import sys; print(42); print('no', file=sys.stderr); sys.exit(3)",
    "rust": 'fn main() { println!("42"); eprintln!("no"); std::process::exit(3) }',
    "typescript": "const x: number = 42; console.log(x); console.error('no'); process.exit(3)",
}


@pytest.mark.parametrize("lang", PROGRAMS)
def test_every_language(client, lang):
    require_language({"javascript": "node"}.get(lang, lang))
    stream = client.run(PROGRAMS[lang], lang)
    assert stream.result == {"stdout": "42\n", "stderr": "no\n", "exit_code": 3, "timeout": False}
    assert (stream.said("stdout"), stream.said("stderr")) == ("42\n", "no\n")


def test_files_lie_in_their_folder(client):
    files = [
        {"path": "data/a.bin", "content": base64.b64encode(bytes(range(256))).decode()},
        {"path": "b.txt", "content": base64.b64encode(b"text").decode()},
    ]
    code = "print(len(open('./files/data/a.bin','rb').read()), open('files/b.txt').read())"
    assert client.run(code, files=files).result["stdout"] == "256 text\n"


def test_a_compiler_that_fails(client):
    require_language("go")
    stream = client.run("package main\nfunc main() { nothing() }", "go")
    assert stream.result["exit_code"] == 1
    assert "undefined: nothing" in stream.result["stderr"]
    assert stream.said("stderr") == stream.result["stderr"]


def test_a_program_whose_time_runs_out(client):
    stream = client.run("echo before; sleep 60", "bash", timeout=5)
    assert stream.result == {"stdout": "before\n", "stderr": "", "exit_code": None, "timeout": True}


def test_output_comes_before_the_program_ends(service):
    connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
    body = json.dumps({"lang": "bash", "code": "echo first; sleep 2; echo last"})
    headers = {"X-Runner-Api-Key": service.token, "Content-Type": "application/json"}
    connection.request("POST", "/api/code/run", body=body, headers=headers)
    reply, came = connection.getresponse(), {}
    while line := reply.readline():
        chunk = json.loads(line)
        if chunk["event"] == "stdout":
            came[chunk["data"]] = time.monotonic()
    connection.close()
    assert came["last\n"] - came["first\n"] > 1


def test_a_long_output_comes_in_lines_that_clients_can_read(client):
    stream = client.run("print('é\"' * 200_000)")
    assert stream.said("stdout") == 'é"' * 200_000 + "\n"
    assert stream.said("stdout").startswith(stream.result["stdout"])
    assert "The result has the first" in stream.said("info")


def test_dependencies_where_packages_are_off(client):
    stream = client.run("import requests", dependencies=["requests==2.32.3"])
    assert (stream.status, stream.content_type) == (400, "text/plain; charset=utf-8")
    assert "PACKAGES" in stream.text


#: (body, the beginning of the message)
WRONG = [
    (b"{", "The body is not valid JSON"),
    (b"[]", "The body must be a JSON object"),
    ({}, "code: is required"),
    ({"code": "1"}, "lang: is required"),
    ({"code": "1", "lang": "ruby"}, "lang: must be one of 'bash'"),
    ({"code": 1, "lang": "bash"}, "code: must be a string"),
    ({"code": "", "lang": "bash", "timeout": 4}, "timeout: must be from 5 to 300"),
    ({"code": "1", "lang": "bash", "timeout": 300}, "timeout: 300 exceeds this key's maximum of 60 seconds"),
    ({"code": "1", "lang": "bash", "mem_limit_mb": 4096}, "mem_limit_mb: must be from 1 to 2048"),
    ({"code": "1", "lang": "bash", "cpu_limit": 5}, "cpu_limit: must be from 0.1 to 4"),
    ({"code": "1", "lang": "bash", "files": [{"path": "../a", "content": ""}]}, "files.0.path: must be a relative"),
    ({"code": "1", "lang": "bash", "files": [{"path": "a", "content": "%"}]}, "files.0.content: "),
    ({"code": "1", "lang": "bash", "files": [{"path": "Dockerfile", "content": ""}]}, "files.0.path: Dockerfile"),
]


@pytest.mark.parametrize(("body", "words"), WRONG)
def test_wrong_requests_are_refused_in_its_shape(client, body, words):
    stream = client.post("/api/code/run", body)
    assert (stream.status, stream.content_type) == (400, "application/json")
    message = json.loads(stream.text)
    assert list(message) == ["message"]
    assert message["message"].startswith(words), message


def test_without_its_key(client, service):
    for key in ("no", f"{service.token}x"):
        stream = client.post("/api/code/run", DOCUMENTED, key=key)
        assert (stream.status, stream.content_type) == (401, "text/plain; charset=utf-8")
        assert stream.text == "Unauthorized"
    assert service.request("PUT", "/api/code/run", b"{}", {}).status == 405


def test_a_client_that_leaves_cancels_its_program(service):
    connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
    body = json.dumps({"lang": "bash", "code": "echo left; sleep 50"})
    headers = {"X-Runner-Api-Key": service.token, "Content-Type": "application/json"}
    connection.request("POST", "/api/code/run", body=body, headers=headers)
    reply = connection.getresponse()
    while json.loads(reply.readline())["event"] != "stdout":
        pass
    connection.close()
    reply.close()
    deadline = time.monotonic() + 20
    while (newest := service.get("/v1/runs?limit=1").body["data"][0])["status"] != "cancelled":
        assert time.monotonic() < deadline, newest
        time.sleep(0.1)


def test_its_specification_describes_its_calls(client, service):
    status, document = client.get("/api/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    run = document["paths"]["/api/code/run"]["post"]
    assert set(run["responses"]["200"]["content"]) == {"application/jsonl", "text/event-stream"}
    page = service.get("/api/docs", token=None)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")

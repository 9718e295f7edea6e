"""RunTools' wire contract over a worker whose answer is given."""

from __future__ import annotations

import time

import pytest

from protocol.result import Compile, Result, Usage
from tests.unit.test_api_app import AUTH, LIMITS, Api, language


@pytest.fixture(scope="module")
def kept():
    """Made once, since that takes longer than a test."""
    made = Api()
    made.worker.languages = [
        language("python", version="3.13.5", aliases=["py"], entry_file="main.py"),
        language("go", version="1.24.4", entry_file="main.go"),
        language("rust", ready=False),
        language("bash", version="5.2.37"),
    ]
    yield made
    made.close()


@pytest.fixture
def api(kept):
    """That application with its worker as it was."""
    kept.worker.jobs.clear()
    answer(kept)
    return kept


def send(api, body, headers=None):
    data = {"data": body, "content_type": "application/json"} if isinstance(body, bytes) else {"json": body}
    return api.client.post("/v1/execute", headers=AUTH | (headers or {}), **data)


def answer(api, **fields):
    api.worker.answer = Result(
        **{"status": "succeeded", "language": "python", "limits": LIMITS, **fields}
    ).to_json()


def test_the_first_generation_byte_for_byte(api):
    answer(api, exit_code=0, stdout="2\n", usage=Usage(14, 9, 9, 0))
    reply = send(api, {"runtime": "python", "code": "print(1+1)"}, {"x-request-id": "req-1"})
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    data = b'{"stdout":"2\\n","stderr":"","exitCode":0,"executionTime":14,"timedOut":false}'
    assert reply.data == b'{"data":' + data + b',"meta":{"requestId":"req-1"}}'
    assert reply.headers["x-request-id"] == "req-1"
    assert api.worker.jobs[0].limits["timeout_ms"] == 30_000


def test_the_later_generation_byte_for_byte(api):
    answer(api, exit_code=0, stdout="2\n", usage=Usage(14, 9, 9, 0))
    reply = send(api, {"language": "py", "version": "*", "files": [{"name": "a.py", "content": "print(1+1)"}]})
    assert reply.data == (
        b'{"language":"python","version":"3.13.5","session_id":null,"run":{"stdout":"2\\n","stderr":"",'
        b'"code":0,"signal":null,"time_ms":14,"memory_kb":9216}}'
    )
    assert api.worker.jobs[0].entrypoint == "a.py"


def test_a_compiled_language_has_a_stage_more(api):
    answer(api, language="go", status="failed", compile=Compile("", "undefined: x\n", 1, 90, 70))
    program = {"code": "package main"}
    later = send(api, {"language": "go", **program}).json
    assert list(later) == ["language", "version", "session_id", "compile", "run"]
    stage = {"stdout": "", "stderr": "undefined: x\n", "code": 1, "time_ms": 90, "memory_kb": None}
    assert later["compile"] == stage
    assert later["run"]["code"] is None
    first = send(api, {"runtime": "go", **program}).json["data"]
    assert (first["stderr"], first["exitCode"]) == ("undefined: x\n", 1)


def test_a_timeout_and_a_signal(api):
    answer(api, status="timeout", signal="SIGKILL", timed_out=True)
    first = send(api, {"runtime": "python", "code": "1", "timeout": 5}).json["data"]
    assert (first["exitCode"], first["timedOut"]) == (137, True)
    assert api.worker.jobs[0].limits["timeout_ms"] == 5
    later = send(api, {"language": "python", "code": "1", "run_timeout": 6}).json["run"]
    assert (later["code"], later["signal"]) == (None, "SIGKILL")
    assert api.worker.jobs[1].limits["timeout_ms"] == 6


def test_all_that_a_request_may_say(api):
    files = {"lib/a.py": "x = 1", "run.py": "import lib.a"}
    common = {"stdin": "in", "env": {"A": "b"}, "args": ["1"], "unknown": {"field": 1}}
    send(api, {"runtime": "python", "files": files, "entrypoint": "run.py", **common})
    listed = [{"name": path, "content": text} for path, text in files.items()]
    send(api, {"language": "python", "files": listed, "entrypoint": "run.py", "version": "3.13", **common})
    for job in api.worker.jobs:
        assert (job.entrypoint, job.code, job.stdin, job.env, job.args) == (
            "run.py",
            None,
            "in",
            {"A": "b"},
            ("1",),
        )
        assert [(file.path, file.content) for file in job.files] == [
            ("lib/a.py", b"x = 1"),
            ("run.py", b"import lib.a"),
        ]
    # Beside code, files are only there to be read.
    send(api, {"runtime": "python", "code": "1", "files": {"data.csv": "1,2"}})
    assert (api.worker.jobs[2].code, len(api.worker.jobs[2].files)) == ("1", 1)


@pytest.mark.parametrize(
    ("files", "entrypoint"),
    [
        ({"a.py": "1", "main.py": "2"}, "main.py"),
        ({"a.py": "1", "b.py": "2"}, "a.py"),
        ([{"name": "z.py", "content": "1"}, {"name": "a.py", "content": "2"}], "z.py"),
    ],
)
def test_the_file_that_is_run_where_none_is_named(api, files, entrypoint):
    assert send(api, {"runtime": "python", "files": files}).status_code == 200
    assert api.worker.jobs[0].entrypoint == entrypoint


def test_the_timeout_that_clients_send_unasked_is_lowered_to_the_plans():
    anonymous = Api(self_service_keys=True)
    for body in ({}, {"timeout": 30_000}, {"timeout": 200}):
        sent = {"runtime": "python", "code": "1", **body}
        assert anonymous.client.post("/v1/execute", json=sent).status_code == 200
    assert [job.limits["timeout_ms"] for job in anonymous.worker.jobs] == [10_000, 10_000, 200]
    reply = anonymous.client.post("/v1/execute", json={"runtime": "python", "code": "1", "timeout": 30_001})
    assert reply.json["error"]["message"] == "timeout: 30001 exceeds this key's maximum of 10000"
    anonymous.close()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is empty: it must be a JSON object."),
        (b"{", "The body is not valid JSON: unexpected end of data (line 1, column 2, byte 1)."),
        (b"[]", "The body must be a JSON object, and is an array."),
        ({}, "runtime: give runtime or language"),
        ({"runtime": 1, "code": "1"}, "runtime: must be a string"),
        ({"runtime": "cobol", "code": "1"}, "runtime: unknown; supported: python, go, rust"),
        ({"runtime": "bash", "code": "1"}, "runtime: unknown; supported: python, go, rust"),
        ({"language": "cobol", "code": "1"}, "language: unknown; supported: bash, go, python, rust"),
        ({"language": "python", "version": "2", "code": "1"}, "version: python is installed as 3.13.5; give that or *"),
        ({"language": "python", "version": "3.1", "code": "1"}, "version: python is installed as 3.13.5; give that or *"),
        ({"language": "python", "code": "1", "session_id": "s"}, "session_id: is not available here; leave it out, or use a sandbox"),
        ({"runtime": "python"}, "code: give code or files"),
        ({"runtime": "python", "code": ""}, "code: must not be empty"),
        ({"runtime": "python", "files": {}}, "code: give code or files"),
        ({"runtime": "python", "files": "x"}, "files: must be an object of paths and texts, or a list of {name, content}"),
        ({"runtime": "python", "files": [{"name": "a"}]}, "files: must be an object of paths and texts, or a list of {name, content}"),
        ({"runtime": "python", "files": {"../a": ""}}, "files.?: must not contain '..'"),
        ({"language": "python", "files": [{"name": "/a", "content": ""}]}, "files.0.name: must be relative"),
        ({"runtime": "python", "files": {"a": ""}, "entrypoint": "b"}, "entrypoint: must be the path of one of the inline files"),
        ({"runtime": "python", "code": "1", "entrypoint": "a"}, "entrypoint: give code or entrypoint, not both"),
        ({"runtime": "python", "code": "1", "timeout": 60_001}, "timeout: 60001 exceeds this key's maximum of 60000"),
        ({"runtime": "python", "code": "1", "timeout": 0}, "timeout: 0 is below the minimum of 1"),
        ({"language": "python", "code": "1", "run_timeout": -1}, "run_timeout: -1 is below the minimum of 1"),
        ({"language": "python", "code": "1", "compile_timeout": 30_001}, "compile_timeout: must be from 1 to 30000"),
        ({"runtime": "python", "code": "1", "env": {"A=B": "x"}}, "env: a name must be a letter or _, then letters, digits or _"),
        ({"runtime": "python", "code": "1", "env": {"A": 1}}, "env.A: must be a string"),
        ({"runtime": "python", "code": "1", "args": ["a\0"]}, "args.0: must not contain NUL"),
    ],
)  # fmt: skip
def test_wrong_requests(api, body, message):
    reply = send(api, body)
    assert (reply.status_code, reply.content_type) == (400, "application/json")
    request_id = reply.headers["x-request-id"]
    assert reply.json == {"error": {"code": "invalid_request", "message": message, "requestId": request_id}}
    assert api.worker.jobs == []


def test_other_refusals(api):
    typed = api.client.post("/v1/execute", data="{}", content_type="text/plain", headers=AUTH)
    compressed = send(api, b"{}", {"Content-Encoding": "gzip"})
    late = send(api, {"runtime": "rust", "code": "1"})
    method = api.client.delete("/v1/execute", headers=AUTH)
    below = api.client.get("/v1/runtimes/python", headers=AUTH)
    found = [(reply.status_code, reply.json["error"]["code"]) for reply in (typed, compressed, late, method, below)]
    assert found == [
        (415, "unsupported_media_type"),
        (415, "unsupported_media_type"),
        (503, "unavailable"),
        (405, "method_not_allowed"),
        (404, "not_found"),
    ]
    assert late.json["error"]["message"] == "runtime: rust is not ready yet"
    assert "POST" in method.headers["Allow"]


def test_a_run_that_the_service_failed(api):
    api.worker.answer = RuntimeError("a secret")
    reply = send(api, {"runtime": "python", "code": "1"})
    assert (reply.status_code, reply.json["error"]["code"]) == (500, "internal_error")
    assert "secret" not in reply.text


def test_the_rate_limit_is_in_the_headers_of_its_clients():
    api = Api(api_keys="tok:me:0.1:2")
    replies = [send(api, {"runtime": "python", "code": "1"}) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert [reply.headers["X-RateLimit-Remaining"] for reply in replies] == ["1", "0", "0"]
    for reply in replies:
        assert reply.headers["X-RateLimit-Limit"] == "2"
        assert 0 < int(reply.headers["X-RateLimit-Reset"]) - time.time() < 25
    assert replies[2].json["error"]["code"] == "rate_limited"
    assert replies[2].headers["Retry-After"]
    api.close()


def test_runtimes(api):
    reply = api.client.get("/v1/runtimes", headers={"X-API-Key": "tok"})
    assert reply.json["meta"] == {"hasMore": False, "nextCursor": None}
    assert [row["runtime"] for row in reply.json["data"]] == ["python", "go", "bash"]
    assert reply.json["data"][0] == {
        "runtime": "python",
        "language": "python",
        "version": "3.13.5",
        "aliases": ["py"],
    }
    wrong = api.client.get("/v1/runtimes", headers={"X-API-Key": "no"})
    assert (wrong.status_code, list(wrong.json["error"])) == (401, ["code", "message", "requestId"])

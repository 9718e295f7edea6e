"""runakode's API over HTTP on the real service."""

from __future__ import annotations

import uuid

import pytest

from config.version import VERSION
from tests.support.slow_machine import require_language

#: As its page has the request.
DOCUMENTED = b'{"language":"python","source_code":"print(\\"hello\\")"}'
FIELDS = ["stdout", "stderr", "exit_code", "timeout", "exec_time_ms"]


def address():
    """The header by which a request has an address of its own."""
    part = uuid.uuid4().int
    return {"X-Forwarded-For": f"198.19.{part % 256}.{part // 256 % 256}"}


def test_the_documented_request_without_a_key(service):
    reply = service.request("POST", "/api", DOCUMENTED, address(), token=None)
    assert reply.status == 200, reply.raw
    assert list(reply.body) == FIELDS
    time_ms = reply.body["exec_time_ms"]
    expected = b'{"stdout":"hello\\n","stderr":"","exit_code":0,"timeout":false,"exec_time_ms":%d}'
    assert reply.raw == expected % time_ms


def test_its_runs_are_in_the_history_under_the_isolation_that_is_set(service):
    # A comment that no other test has, so that the run is found.
    mark = uuid.uuid4().hex
    reply = service.request("POST", "/api", b'{"language":"bash","source_code":"echo %s"}' % mark.encode())
    assert reply.body["stdout"] == f"{mark}\n"
    runs = service.get("/v1/runs?limit=20").body["data"]
    run = next(run for run in runs if mark in run["stdout"])
    has_gvisor = (
        service.post("/v1/runs", json={"language": "bash", "code": ":", "isolation": "gvisor"}).status == 200
    )
    assert run["isolation"]["runtime"].startswith("runsc") is has_gvisor


def test_a_program_that_fails_and_one_that_is_killed(service):
    failed = service.post("/api", json={"language": "bash", "source_code": "echo x >&2; exit 3"}).body
    assert (failed["stderr"], failed["exit_code"]) == ("x\n", 3)
    killed = service.post("/api", json={"language": "bash", "source_code": "kill -KILL $$"}).body
    assert (killed["exit_code"], killed["timeout"]) == (137, False)


def test_a_program_that_does_not_compile(service):
    require_language("go")
    body = {"language": "go", "source_code": "package main\nfunc main() { oops }\n"}
    reply = service.post("/api", json=body)
    assert (reply.status, reply.body["exit_code"], reply.body["stdout"]) == (200, 1, "")
    assert "undefined: oops" in reply.body["stderr"]


def test_health_as_it_is_checked(service):
    reply = service.get("/health", token=None)
    assert (reply.status, reply.body) == (200, {"status": "ok", "ok": True, "version": VERSION})


@pytest.mark.parametrize(
    ("path", "fields", "check"),
    [
        ("/api", b'{"language":"bash","source_code":"echo hi;#', lambda reply: reply.raw.endswith(b"\n")),
        ("/v1/execute", b'{"language":"bash","code":"echo hi;#', lambda reply: reply.body["error"]["requestId"]),
        (
            "/api/v2/execute",
            b'{"language":"bash","version":"*","files":[{"content":"echo hi"}],"stdin":"',
            lambda reply: reply.body["message"],
        ),
    ],
    ids=["runakode", "runtools", "piston"],
)
def test_without_a_key_a_program_may_have_a_mebibyte(service, path, fields, check):
    end = b'"}'
    kind = {"Content-Type": "application/json"}
    large = fields + b"x" * (1024 * 1024 - len(fields) - len(end)) + end
    reply = service.request("POST", path, large, kind | address(), token=None)
    assert reply.status == 200, reply.raw[:300]
    larger = fields + b"x" * (1024 * 1024 + 100_000) + end
    reply = service.request("POST", path, larger, kind | address(), token=None)
    assert reply.status == 413
    assert check(reply)
    # Paths that want a key take little without one.
    reply = service.request("POST", "/v1/runs", large, kind | address(), token=None)
    assert reply.status in (401, 413)
    assert list(reply.body["error"]) == ["message", "type", "param", "code"]

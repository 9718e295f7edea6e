"""Programs that resist being frozen, and clients that reach for what is not theirs by way of a session's life."""

from __future__ import annotations

import json
import threading
import time

import pytest

HELLO = {"language": "bash", "code": "echo hi"}


@pytest.fixture
def made(service):
    """Create a session of a case's own; removed afterwards."""
    paths = []

    def make(**fields):
        body = {"language": "bash", "limits": {"memory_mb": 256, "pids": 128}, **fields}
        reply = service.post("/v1/sessions", json=body)
        assert reply.status == 201, reply.body
        paths.append(f"/v1/sessions/{reply.body['id']}")
        return paths[-1]

    yield make
    for path in paths:
        service.request("DELETE", path)


def until_status(service, path, wanted, seconds=20):
    deadline = time.monotonic() + seconds
    while (found := service.get(path).body["status"]) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted}"
        time.sleep(0.1)


RESISTING = {
    "signals are ignored": "trap '' TERM INT HUP CONT TSTP USR1; while :; do :; done",
    "forks all the time": "while :; do (:) & done; wait",
    "stops and continues itself": "while :; do kill -STOP $BASHPID & sleep 0.01; kill -CONT $BASHPID; done",
    "leaves its group": "setsid bash -c 'while :; do setsid sleep 0.01; done'",
    "writes to its control group": "while :; do for f in /sys/fs/cgroup/*; do echo 0 > $f; done; sleep 0.01; done 2>/dev/null",
    "waits in a pipe that nobody opens": "mkfifo p; cat p",
    "traces": "while :; do cat /proc/*/stack /proc/*/syscall; done 2>/dev/null",
}


@pytest.mark.parametrize("code", RESISTING.values(), ids=RESISTING.keys())
def test_a_program_that_resists_is_frozen_all_the_same(service, invariants, made, code):
    path = made(freeze_after_s=1)
    assert service.post(f"{path}/processes", json={"command": code, "tag": "resists"}).status == 201
    until_status(service, path, "frozen")
    before = service.get(path).body["usage"]["cpu_ms"]
    time.sleep(1)
    assert service.get(path).body["usage"]["cpu_ms"] == before, "it has used a processor while it was frozen"
    assert service.post("/v1/runs", json=HELLO).body["stdout"] == "hi\n"
    began = time.monotonic()
    assert service.request("DELETE", path).status == 200
    assert time.monotonic() - began < 10


def test_the_memory_of_a_session_at_rest_does_not_grow(service, made):
    path = made()
    grow = {"command": "while :; do head -c 4M /dev/zero >> /dev/shm/grows; sleep 0.05; done"}
    service.post(f"{path}/processes", json=grow)
    time.sleep(0.3)
    assert service.post(f"{path}/pause").status == 200
    before = service.get(path).body["usage"]["memory_mb"]
    time.sleep(1)
    assert service.get(path).body["usage"]["memory_mb"] == before
    assert service.post(f"{path}/resume").status == 200


def test_a_session_that_ran_out_of_memory_at_rest_is_still_deleted(service, made):
    path = made(limits={"memory_mb": 64, "pids": 16}, freeze_after_s=1)
    service.post(f"{path}/processes", json={"command": "head -c 60M /dev/zero | tail"})
    until_status(service, path, "frozen", 30)
    assert service.request("DELETE", path).status == 200


CALLS = [
    ("PATCH", "", b'{"idle_timeout_s": 5}'),
    ("PATCH", "", b'{"network": {"allow": []}}'),
    ("POST", "/pause", b""),
    ("POST", "/resume", b""),
    ("POST", "/token", b""),
]


@pytest.mark.parametrize(("method", "call", "body"), CALLS, ids=[f"{method}{call}" for method, call, _ in CALLS])
def test_another_keys_session_is_unknown(service, made, method, call, body):
    path = made()
    reply = service.request(
        method, path + call, body, {"Content-Type": "application/json"}, token=service.other_token
    )
    assert (reply.status, reply.body["error"]["code"]) == (404, "session_not_found")
    assert service.get(path).body["status"] == "ready"


@pytest.mark.parametrize(("method", "call", "body"), CALLS, ids=[f"{method}{call}" for method, call, _ in CALLS])
def test_a_call_without_a_token_is_refused(service, made, method, call, body):
    reply = service.request(method, made() + call, body, {"Content-Type": "application/json"}, token=None)
    assert reply.status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b"null",
        b'{"idle_timeout_s": 1e99}',
        b'{"idle_timeout_s": true}',
        b'{"max_age_s": "600"}',
        b'{"metadata": {"' + b"a" * 100_000 + b'": "x"}}',
        json.dumps({"metadata": {str(n): "" for n in range(100)}}).encode(),
        b'{"status": "ended"}',
        b'{"owner": "key_x"}',
        b'{"network": "*"}',
        b'{"network": {"allow": [null]}}',
        b'{"network": {"allow": ["a.example\\r\\nHost: b.example"]}}',
        b'{"network": {"allow": ["' + b"a" * 300 + b'"]}}',
        json.dumps({"network": {"allow": [], "deny": ["*"] * 65}}).encode(),
        b'{"network": {"allow": [], "most_bytes": 1}}',
    ],
    ids=range(16),
)
def test_a_body_that_is_no_change_changes_nothing(service, made, body):
    path = made()
    before = service.get(path).body
    reply = service.request("PATCH", path, body, {"Content-Type": "application/json"})
    assert reply.status == 400, reply.body
    after = service.get(path).body
    assert {name: after[name] for name in ("idle_timeout_s", "max_age_s", "metadata", "network")} == {
        name: before[name] for name in ("idle_timeout_s", "max_age_s", "metadata", "network")
    }


def test_pauses_and_resumes_at_once_leave_a_session_that_works(service, made):
    path = made(freeze_after_s=1)
    stop = time.monotonic() + 3

    def call(what):
        while time.monotonic() < stop:
            reply = service.post(f"{path}/{what}")
            assert reply.status in (200, 409, 503), reply.body

    def use():
        while time.monotonic() < stop:
            reply = service.get(f"{path}/files/stat?path=/work")
            assert reply.status in (200, 409, 503), reply.body

    threads = [threading.Thread(target=call, args=(what,)) for what in ("pause", "resume", "pause", "resume")]
    threads += [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.post(f"{path}/resume").status == 200
    assert service.post(f"{path}/runs", json={"code": "echo usable"}).body["stdout"] == "usable\n"


def test_no_token_of_a_session_is_logged(service, made):
    path = made()
    token = service.post(f"{path}/token").body["token"]
    service.get(path, token=token)
    service.get(f"/v1/runs?token={token}", token=token)
    service.get(f"{path}/{token}", token=token)
    time.sleep(0.3)
    for file in (service.state / "log").rglob("*.log"):
        assert token.encode() not in file.read_bytes(), file

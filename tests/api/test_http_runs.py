"""Runs over HTTP on the real service: the run object, looking at runs, leaving, what is not offered yet."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from pathlib import Path

RUN_FIELDS = [
    "id",
    "object",
    "status",
    "language",
    "exit_code",
    "signal",
    "timed_out",
    "oom_killed",
    "cancelled",
    "stdout",
    "stderr",
    "stdout_truncated",
    "stderr_truncated",
    "usage",
    "compile",
    "artifacts",
    "skipped_artifacts",
    "skipped_artifacts_count",
    "hints",
    "limits",
    "metadata",
    "code_sha256",
    "isolation",
    "session_id",
    "external_id",
    "layer",
    "context",
    "execution_count",
    "state",
    "exception",
    "results",
    "results_dropped",
    "created_at",
    "started_at",
    "finished_at",
    "error",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_the_first_curl(service):
    reply = service.post("/v1/runs", json={"language": "python", "code": "print(1+1)"})
    run = reply.body
    assert reply.status == 200
    assert list(run) == RUN_FIELDS
    assert (run["status"], run["stdout"], run["exit_code"]) == ("succeeded", "2\n", 0)
    assert re.fullmatch(r"run_[A-Za-z0-9]{24,}", run["id"])
    assert run["code_sha256"] == hashlib.sha256(b"print(1+1)").hexdigest()
    assert run["limits"] == {
        "timeout_ms": 10_000,
        "cpu_ms": 10_000,
        "memory_mb": 256,
        "cpus": 1.0,
        "pids": 64,
        "max_output_bytes": 1024 * 1024,
        "max_artifact_bytes": 10 * 1024 * 1024,
        "max_artifact_files": 10,
    }
    times = [run[name] for name in ("created_at", "started_at", "finished_at")]
    assert all(TIME.fullmatch(at) for at in times)
    assert times == sorted(times)


def test_a_run_is_found_again_by_its_owner_only(service):
    run = service.run(code="print(1)", metadata={"user": "42"})
    found = service.get(f"/v1/runs/{run['id']}")
    assert (found.status, found.body) == (200, run)
    assert found.body["metadata"] == {"user": "42"}
    foreign = service.get(f"/v1/runs/{run['id']}", token=service.other_token)
    unknown = service.get("/v1/runs/run_" + "x" * 28)
    assert foreign.status == unknown.status == 404
    assert foreign.body == unknown.body


def test_entrypoint_files_and_arguments(service):
    run = service.run(
        entrypoint="pkg/go.py",
        files=[
            {"path": "pkg/go.py", "content": "import sys; from pkg import data; print(sys.argv[1:], data.D)"},
            {"path": "pkg/data.py", "content": "RCA9ICfDqSc=", "encoding": "base64"},
        ],
        args=["--fast", "é"],
        env={"PYTHONPATH": "/work"},
    )
    assert run["stdout"] == "['--fast', 'é'] é\n", run["stderr"]


def test_an_artifact_in_the_run(service):
    run = service.run(code="open('/work/outputs/a.txt', 'w').write('hi')")
    (artifact,) = run["artifacts"]
    assert re.fullmatch(r"file_[A-Za-z0-9]{24,}", artifact.pop("id"))
    assert TIME.fullmatch(artifact.pop("expires_at"))
    assert artifact.pop("url").startswith(f"{service.url}/v1/files/file_")
    assert artifact == {
        "name": "a.txt",
        "path": "a.txt",
        "size": 2,
        "sha256": hashlib.sha256(b"hi").hexdigest(),
        "content_type": "text/plain",
    }


def test_isolation_container_is_taken_and_kept(service):
    run = service.run(code="print(1)", isolation="container")
    assert run["isolation"]["source"] in ("pool", "cold")


def test_a_client_that_leaves_cancels_its_run(service):
    nap = f"sleep 55.{time.time_ns()}"
    client = _start(service, nap)
    assert _wait_until(lambda: _running(nap) == 1)
    client.close()
    assert _wait_until(lambda: _running(nap) == 0, seconds=2)


def test_many_that_leave_disturb_nobody(service):
    nap = f"sleep 55.{time.time_ns()}"
    clients = [_start(service, nap) for _ in range(12)]
    assert _wait_until(lambda: _running(nap) > 0)
    for client in clients:
        client.close()
    assert service.run(code="print(3)")["stdout"] == "3\n"
    assert _wait_until(lambda: _running(nap) == 0, seconds=5)
    assert service.get("/v1/health", token=None).body["status"] == "ok"


def test_health_answers_while_runs_wait(service):
    codes: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: codes.append(
                service.post("/v1/runs", json={"language": "bash", "code": "sleep 2"}).status
            )
        )
        for _ in range(24)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert service.get("/healthz", token=None).status == 200
    assert time.monotonic() - began < 1.8
    for thread in threads:
        thread.join()
    assert codes == [200] * 24


def test_an_isolation_that_there_is_not_is_said(service):
    for odd in ("kata", "", 1, "gVisor"):
        reply = service.post("/v1/runs", json={"language": "python", "code": "x", "isolation": odd})
        assert (reply.status, reply.body["error"]["param"]) == (400, "isolation")


def test_gvisor_is_had_for_the_asking(service):
    code = "print(open('/proc/version').read())"
    plain = service.run(code=code)
    run = service.run(code=code, isolation="gvisor", limits={"timeout_ms": 30_000})
    assert run["status"] == "succeeded", run
    assert (run["isolation"]["runtime"], run["isolation"]["seccomp"]) == ("runsc", None)
    assert run["isolation"]["platform"] in {"systrap", "ptrace"}
    assert plain["isolation"]["runtime"] != "runsc"
    assert run["stdout"] != plain["stdout"]  # another kernel answers
    deadline = time.monotonic() + 20  # what the worker says of itself is remembered for a while
    while "posture.gvisor" not in (checks := service.get("/readyz", token=None).body["checks"]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert checks["posture.gvisor"] == "ok"


def test_gvisor_has_a_warm_pool_of_its_own(service):
    """One of each language that was asked for is kept."""
    deadline = time.monotonic() + 60
    source = None
    while source != "pool" and time.monotonic() < deadline:
        run = service.run("bash", "echo 1", isolation="gvisor", limits={"timeout_ms": 30_000})
        assert run["stdout"] == "1\n"
        source = run["isolation"]["source"]
    assert source == "pool"
    assert service.run("bash", "echo 1", isolation="container")["isolation"]["runtime"] != "runsc"


def test_gvisor_streams_and_runs_in_the_background_as_the_others(service):
    asked = {"language": "bash", "code": "echo 1", "isolation": "gvisor", "background": True}
    accepted = service.post("/v1/runs", json=asked)
    assert accepted.status == 202
    with service.events(
        json={"language": "bash", "code": "echo 1", "isolation": "gvisor", "stream": True}
    ) as events:
        last = [event for _, event in events][-1]
    assert (last["event"], last["data"]["isolation"]["runtime"]) == ("result", "runsc")


def test_large_output_comes_back_whole(service):
    size = 8 * 1024 * 1024
    run = service.run(code=f"print('x' * {size + 10})", limits={"max_output_bytes": size})
    assert len(run["stdout"]) == size
    assert run["stdout_truncated"]
    assert service.get(f"/v1/runs/{run['id']}").body == run


def test_large_input_goes_in_whole(service):
    text = "é\0\n" * 1_000_000
    run = service.run(
        code="import sys,hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())", stdin=text
    )
    assert run["stdout"].strip() == hashlib.sha256(text.encode()).hexdigest(), run


def _start(service, code: str) -> socket.socket:
    """Send a run of bash and do not wait for it."""
    body = json.dumps({"language": "bash", "code": code}).encode()
    head = (
        "POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {service.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client = socket.create_connection((service.host, service.port))
    client.sendall(head.encode() + body)
    return client


def _running(command: str) -> int:
    """Processes of this machine with that command line: those of sandboxes are among them."""
    wanted = command.replace(" ", "\0").encode() + b"\0"
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            count += path.read_bytes() == wanted
    return count


def _wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return done

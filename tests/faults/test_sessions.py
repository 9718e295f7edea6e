"""Sessions while parts of the service are killed: what goes on, what ends and says so, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from sandbox.engines.oci.slots import MADE_AT_START
from tests.support.own_service import UNREACHABLE, is_ready
from tests.support.workers import pids, until


def create(service, **fields):
    reply = service.post("/v1/sessions", json={"language": "bash", **fields})
    assert reply.status == 201, reply.body
    return f"/v1/sessions/{reply.body['id']}"


def kill(service, what):
    """Kill every process of a part, and wait until the service is ready again."""
    for pid in pids(service, what):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    until(lambda: is_ready(service), 60)


def status_of(service, path):
    """The session's object; None while nobody answers."""
    with contextlib.suppress(*UNREACHABLE):
        reply = service.get(path)
        return reply.body if reply.status == 200 else None


def test_a_session_outlives_api(shared_service):
    service = shared_service()
    path = create(service)
    service.request("PUT", f"{path}/files?path=kept", b"kept")
    started = service.post(f"{path}/processes", json={"command": "sleep 543.21", "tag": "lives"}).body
    kill(service, "api")
    assert service.get(f"{path}/files?path=kept").raw == b"kept"
    assert service.get(f"{path}/processes/tag:lives").body["id"] == started["id"]
    assert service.post(f"{path}/runs", json={"code": "cat kept"}).body["stdout"] == "kept"
    assert service.request("DELETE", path).status == 200


def test_a_killed_workers_sessions_end_and_nothing_of_them_is_left(shared_service):
    service = shared_service()
    paths = [create(service) for _ in range(3)]
    for path in paths:
        service.post(f"{path}/processes", json={"command": "sleep 543.21"})
    run = service.post(f"{paths[0]}/runs", json={"code": "sleep 100", "background": True}).body
    kill(service, "worker")
    for path in paths:
        until(lambda path=path: (status_of(service, path) or {}).get("status") == "ended", 40)
        ended = service.get(path).body
        assert ended["end_reason"] == "worker_lost"
        assert service.post(f"{path}/runs", json={"code": "true"}).status == 410
    assert service.ended(run["id"], seconds=60)["status"] == "error"
    assert service.post("/v1/runs", json={"language": "bash", "code": "echo hi"}).body["stdout"] == "hi\n"
    until(lambda: not _sleepers(), 20)


def _sleepers():
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if file.read() == b"sleep\x00543.21\x00":
                    found.append(name)
    return found


def test_a_session_whose_agent_is_killed_ends(shared_service):
    service = shared_service()
    path = create(service)
    service.post(f"{path}/processes", json={"command": "exec -a agent-mark sleep 501"})
    marked = until_found(b"agent-mark")
    with open(f"/proc/{marked}/status") as file:
        parents = [line.split()[1] for line in file if line.startswith("PPid:")]
    keeper = parents[0]
    with open(f"/proc/{keeper}/status") as file:
        agent = next(line.split()[1] for line in file if line.startswith("PPid:"))
    os.kill(int(agent), signal.SIGKILL)
    until(lambda: service.get(path).body["status"] == "ended", 20)
    assert service.get(path).body["end_reason"] == "failed"


def until_found(word):
    """The pid, on the host, of the process whose command begins with that word."""
    found = []

    def look():
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                    if file.read().startswith(word):
                        found.append(int(name))
        return bool(found)

    until(look, 20)
    return found[0]


def test_more_sessions_live_than_slots_were_made_at_the_start(shared_service):
    service = shared_service(SESSIONS_MEMORY_MB="3000")
    number = MADE_AT_START + 16
    body = {"language": "bash", "limits": {"memory_mb": 64, "pids": 16}, "freeze_after_s": 1}
    paths = []
    for n in range(number):
        reply = service.post("/v1/sessions", json=body)
        assert reply.status == 201, (n, reply.body)
        paths.append(f"/v1/sessions/{reply.body['id']}")
    for n, path in enumerate(paths):
        assert service.post(f"{path}/runs", json={"code": f"echo {n}; id -u"}).body["stdout"] == f"{n}\n1000\n"
    for path in paths:
        assert service.request("DELETE", path).status == 200
    assert service.post("/v1/runs", json={"language": "bash", "code": "echo hi"}).body["stdout"] == "hi\n"


def test_more_sessions_than_may_live_are_refused_and_those_that_live_are_kept(shared_service):
    service, number = shared_service(MAX_SESSIONS="20"), 40
    statuses, paths = [], []
    for _ in range(number):
        reply = service.post("/v1/sessions", json={"language": "bash", "limits": {"memory_mb": 64}})
        statuses.append(reply.status)
        if reply.status == 201:
            paths.append(f"/v1/sessions/{reply.body['id']}")
    assert (statuses.count(201), statuses.count(503)) == (20, number - 20)
    assert service.post("/v1/runs", json={"language": "bash", "code": "echo hi"}).body["stdout"] == "hi\n"
    for path in paths:
        assert service.post(f"{path}/runs", json={"code": "echo in"}).body["stdout"] == "in\n"
        assert service.request("DELETE", path).status == 200
    assert service.request("DELETE", create(service)).status == 200

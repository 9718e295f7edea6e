"""Frozen and paused sessions while parts of the service are killed, and while memory is short."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from sandbox.engines.confinement import instance_name
from tests.support.own_service import UNREACHABLE, is_ready
from tests.support.workers import pids, until

NUMBER = 50
#: Nobody else sleeps for so long.
MARK = "86397"
SMALL = {"language": "bash", "limits": {"memory_mb": 64, "pids": 16}, "freeze_after_s": 1}


def create(service, **fields):
    reply = service.post("/v1/sessions", json={"language": "bash", **fields})
    assert reply.status == 201, reply.body
    return f"/v1/sessions/{reply.body['id']}"


def states(service):
    """The states of the live sessions, by id; nothing while nobody answers."""
    found, after = {}, ""
    with contextlib.suppress(*UNREACHABLE):
        while True:
            page = service.get(f"/v1/sessions?status=live&limit=100{after}")
            if page.status != 200:
                return None
            found |= {one["id"]: one["status"] for one in page.body["data"]}
            if not page.body["has_more"]:
                return found
            after = f"&after={page.body['last_id']}"
    return None


def sleepers():
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if file.read() == b"sleep\0" + MARK.encode() + b"\0":
                    found.append(int(name))
    return found


def groups(service):
    """The directories of sandboxes in every hierarchy, those of version 2 on a hybrid machine among them."""
    name = instance_name(service.state)
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/{name}/*") if path.is_dir()]


def kill(targets):
    for pid in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def watchers(service):
    """The process beside the worker."""
    workers, found = pids(service, "worker"), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if b"sessions/watcher.py" in file.read() and parent(name) in workers:
                    found.append(int(name))
    return found


def parent(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("PPid:"))


@pytest.fixture
def frozen(shared_service):
    """A service with many frozen sessions, in each of which a process sleeps."""
    service = shared_service(MAX_SESSIONS="64", SESSIONS_MEMORY_MB="4096")
    paths = [create(service, **SMALL) for _ in range(NUMBER)]
    for path in paths:
        service.post(f"{path}/processes", json={"command": f"exec sleep {MARK}"})
    until(lambda: set((states(service) or {"": ""}).values()) == {"frozen"}, 60)
    yield service
    for path in paths:
        service.request("DELETE", path)


def test_frozen_sessions_die_with_their_worker_at_once(frozen):
    assert len(sleepers()) == NUMBER
    beside = watchers(frozen)
    assert len(beside) == 1
    workers = pids(frozen, "worker")
    # Whoever starts it again must not be what ends them.
    supervisor = parent(min(workers))
    os.kill(supervisor, signal.SIGSTOP)
    try:
        kill(workers)
        until(lambda: not sleepers(), 20)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    until(lambda: is_ready(frozen), 60)
    until(lambda: states(frozen) == {}, 40)
    until(lambda: len(groups(frozen)) < NUMBER, 10)


def test_frozen_sessions_are_reaped_where_nobody_watched(frozen):
    kill([*watchers(frozen), *pids(frozen, "worker")])
    until(lambda: is_ready(frozen), 60)
    until(lambda: not sleepers(), 20)
    until(lambda: states(frozen) == {}, 40)
    ended = frozen.get("/v1/sessions?limit=1").body["data"][0]
    assert ended["end_reason"] == "worker_lost"
    assert frozen.post("/v1/runs", json={"language": "bash", "code": "echo hi"}).body["stdout"] == "hi\n"


def test_frozen_sessions_outlive_api(shared_service):
    service = shared_service()
    path = create(service, freeze_after_s=1)
    paused = create(service)
    service.request("PUT", f"{path}/files?path=kept", b"kept")
    assert service.post(f"{paused}/pause").status == 200
    token = service.post(f"{path}/token").body["token"]
    until(lambda: service.get(path).body["status"] == "frozen", 20)
    kill(pids(service, "api"))
    time.sleep(0.2)
    until(lambda: is_ready(service), 60)
    assert [service.get(one).body["status"] for one in (path, paused)] == ["frozen", "paused"]
    assert service.get(f"{path}/files?path=kept", token=token).raw == b"kept"
    assert service.post(f"{paused}/resume").body["status"] == "ready"
    for one in (path, paused):
        assert service.request("DELETE", one).status == 200


def test_a_frozen_session_whose_agent_is_killed_ends(shared_service):
    service = shared_service()
    path = create(service, freeze_after_s=1)
    service.post(f"{path}/processes", json={"command": f"exec sleep {MARK}"})
    until(lambda: service.get(path).body["status"] == "frozen", 20)
    keeper = parent(sleepers()[0])
    kill([parent(keeper)])
    until(lambda: service.get(path).body["status"] == "ended", 20)
    assert service.get(path).body["end_reason"] == "failed"
    until(lambda: not sleepers(), 10)


def test_idle_sessions_are_frozen_before_another_is_refused(shared_service):
    service = shared_service(SESSIONS_MEMORY_MB="600", MEMORY_BUDGET_MB="1300")
    paths = [create(service, limits={"memory_mb": 256}, freeze_after_s=600) for _ in range(5)]
    assert sorted((states(service) or {}).values()) == ["frozen"] * 3 + ["ready"] * 2
    busy = [service.post(f"{path}/runs", json={"code": "sleep 30", "background": True}) for path in paths[:2]]
    assert [reply.status for reply in busy] == [202, 202]
    until(lambda: [service.get(path).body["status"] for path in paths[:2]] == ["busy"] * 2, 20)
    began = time.monotonic()
    reply = service.get(f"{paths[2]}/files/stat?path=/work")
    assert (reply.status, reply.body["error"]["code"]) == (503, "overloaded")
    assert 1.5 < time.monotonic() - began < 10
    waits = service.post(f"{paths[2]}/runs", json={"code": "echo in", "background": True}).body
    time.sleep(1)
    assert service.get(f"/v1/runs/{waits['id']}").body["status"] == "queued"
    service.post(f"/v1/runs/{busy[0].body['id']}/cancel")
    assert service.ended(waits["id"])["stdout"] == "in\n"
    # A single-use run gets what idle sessions hold, too.
    big = {"language": "bash", "code": "echo big", "limits": {"memory_mb": 900}}
    assert service.post("/v1/runs", json=big).body["stdout"] == "big\n"
    for path in paths:
        assert service.request("DELETE", path).status == 200


def test_nothing_is_left_of_sessions_that_ended(shared_service):
    service = shared_service()
    before = len(groups(service))
    for end in ("delete", "frozen", "age"):
        path = create(service, freeze_after_s=1, max_age_s=4 if end == "age" else 600)
        service.post(f"{path}/processes", json={"command": f"setsid sleep {MARK} & sleep {MARK}"})
        if end == "frozen":
            until(lambda path=path: service.get(path).body["status"] == "frozen", 20)
        if end != "age":
            service.request("DELETE", path)
        until(lambda path=path: service.get(path).body["status"] == "ended", 20)
    until(lambda: not sleepers(), 10)
    until(lambda: len(groups(service)) <= before, 30)

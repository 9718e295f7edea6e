"""Programs that attack the session that they run in: its agent, its keepers, its file operations, its neighbours."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import time

import pytest

HELLO = {"language": "bash", "code": "echo hi"}


@pytest.fixture
def session(service, invariants):
    """A session of its own for each case; checked to be usable afterwards, and removed."""
    reply = service.post("/v1/sessions", json={"language": "bash", "limits": {"memory_mb": 256, "pids": 128}})
    assert reply.status == 201, reply.body
    yield Inside(service, reply.body["id"])
    service.request("DELETE", f"/v1/sessions/{reply.body['id']}")


class Inside:
    """The calls of one session."""

    def __init__(self, service, session_id):
        self.service = service
        self.path = f"/v1/sessions/{session_id}"

    def run(self, code, **limits):
        reply = self.service.post(f"{self.path}/runs", json={"code": code, "limits": limits or None})
        assert reply.status == 200, reply.body
        return reply.body

    def start(self, command, **fields):
        return self.service.post(f"{self.path}/processes", json={"command": command, **fields})

    def works(self):
        """Whether a run, a process and a file operation do what they should, and no process is left but PID 1."""
        assert self.service.run(**HELLO)["stdout"] == "hi\n", "another run"
        assert self.run("echo still here")["stdout"] == "still here\n"
        assert self.service.get(f"{self.path}/files/stat?path=/work").status == 200

    def others(self):
        """The commands of all processes but PID 1, the keeper and the shell that look for them."""
        found = self.run("for c in /proc/[0-9]*/comm; do cat $c; done 2>/dev/null")["stdout"].split()
        return [name for name in found if name not in ("cat", "bash")]


def test_pid_1_is_out_of_reach(session):
    code = """
kill -9 1; kill -STOP 1; kill -TERM 1
echo x 2>&1 > /proc/1/mem; ls /proc/1/fd; cat /proc/1/environ | wc -c; echo 1000 > /proc/1/oom_score_adj
"""
    ended = session.run(code)
    assert "Permission denied" in ended["stderr"]
    session.works()


def test_the_stream_is_in_no_child(session):
    ended = session.run("ls -l /proc/self/fd /proc/$PPID/fd 2>&1 | grep -c socket")
    assert ended["stdout"] == "0\n"
    assert session.run("cat /proc/$PPID/fd/3")["stdout"] == ""


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_program_that_attacks_its_keeper_is_ended_with_all_it_started(session, signal):
    code = f"(setsid sleep 777 &); sleep 778 & kill -{signal} $PPID; sleep 50"
    started = time.monotonic()
    ended = session.run(code, timeout_ms=2000)
    assert ended["status"] in ("timeout", "failed", "killed")
    assert time.monotonic() - started < 30
    session.works()
    deadline = time.monotonic() + 10
    while "sleep" in session.others() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "sleep" not in session.others()


def test_a_fork_bomb_is_ended_whole(session):
    ended = session.run("f() { f | f & }; f; f; sleep 60", timeout_ms=2000)
    assert ended["timed_out"] is True
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            session.works()
            break
        except AssertionError:
            time.sleep(0.5)
    session.works()


def test_a_flood_on_one_channel_leaves_the_others(session):
    flood = session.start("while :; do echo flood flood flood; done").body["id"]
    for _ in range(5):
        assert session.service.get(f"{session.path}/files/stat?path=/work").status == 200
    session.works()
    kept = session.service.get(f"{session.path}/processes/{flood}").body
    assert kept["status"] == "running"
    assert session.service.request("DELETE", f"{session.path}/processes/{flood}").body["status"] == "ended"


def test_processes_beyond_the_most_are_refused_and_files_still_work(session):
    statuses = [session.start("exec sleep 300").status for _ in range(65)]
    assert (statuses[:40], statuses[-1]) == ([201] * 40, 409)
    assert session.service.get(f"{session.path}/files/stat?path=/work").status == 200
    for process in session.service.get(f"{session.path}/processes").body["data"]:
        session.service.request("DELETE", f"{session.path}/processes/{process['id']}")
    session.works()


@pytest.mark.parametrize(
    ("code", "query"),
    [
        ("mkfifo trap", "files?path=trap"),
        ("ln -s loop loop", "files?path=loop"),
        ("ln -s /dev/zero endless", "files?path=endless"),
        ("ln -s /proc/1/environ secret", "files?path=secret"),
        ("mkdir closed; touch closed/x; chmod 000 closed", "files?path=closed/x"),
        ("ln -s / root", "files/list?path=root/proc/1/fd"),
    ],
)
def test_a_path_that_leads_astray_is_refused_at_once(session, code, query):
    session.run(code)
    started = time.monotonic()
    reply = session.service.get(f"{session.path}/{query}")
    assert (reply.status in (400, 403, 404, 409), time.monotonic() - started < 15) == (True, True), reply.body
    session.works()


def test_a_deep_tree_and_a_long_list_have_bounds(session):
    session.run(
        "p=/work; for i in $(seq 300); do p=$p/d; mkdir $p 2>/dev/null || break; done; for i in $(seq 20000); do :> /tmp/f$i; done",
        timeout_ms=30_000,
    )
    reply = session.service.get(f"{session.path}/files/list?path=/work&depth=64")
    assert (reply.status, len(reply.body["data"]) >= 60) == (200, True)
    many = session.service.get(f"{session.path}/files/list?path=/tmp").body
    assert (len(many["data"]), many["has_more"]) == (10_000, True)
    session.works()


def test_a_program_that_stops_file_operations_costs_its_own_session_alone(session):
    session.start(
        "while :; do for p in /proc/[0-9]*; do n=${p#/proc/}; [ $n -gt 2 ] && [ $n != $$ ] && kill -STOP $n; done; done 2>/dev/null"
    )
    time.sleep(0.5)
    with socket.create_connection((session.service.host, session.service.port), timeout=60) as sock:
        sock.sendall(
            f"GET {session.path}/files/stat?path=/work HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {session.service.token}\r\nConnection: close\r\n\r\n".encode()
        )
        assert session.service.run(**HELLO)["stdout"] == "hi\n"
        assert session.service.get("/v1/health", token=None).body["status"] == "ok"


HOSTILE = [
    ("GET", "files?path=" + "%2e%2e/" * 200 + "etc/shadow"),
    ("PUT", "files?path=%00"),
    ("PUT", "files?path=/proc/1/mem"),
    ("PUT", "files?path=/usr/bin/bash"),
    ("DELETE", "files?path=/&recursive=1"),
    ("DELETE", "files?path=/work&recursive=1"),
    ("GET", "files/list?path=/proc&depth=64&limit=10000"),
    ("GET", "files/list?path=/work&glob=" + "%5B" * 300),
    ("GET", "files/archive?path=/proc"),
    ("GET", "files/archive?path=/dev"),
    ("GET", "files/archive?path=/work&exclude=" + "%5B" * 300),
    ("GET", "files/archive?path=/work" + "&exclude=x" * 33),
    ("PUT", "files/archive?path=/usr"),
    ("PUT", "files/archive?path=%00"),
    ("PUT", "files/archive?path=/proc/1"),
    ("GET", "files/watch?path=/proc/1/fd"),
    ("GET", "files/watchers/%00/events"),
    ("DELETE", "files/watchers/" + "x" * 300),
    ("POST", "files/watchers"),
    ("GET", "processes/tag:%00"),
    ("GET", "processes/" + "9" * 90),
    ("GET", "processes/1/events?after=99999999999999999999"),
    ("POST", "processes/1/stdin?close=1"),
    ("DELETE", "processes/1"),
]


@pytest.mark.parametrize(("method", "path"), HOSTILE)
def test_a_hostile_call_is_answered_and_leaves_the_session(session, method, path):
    reply = session.service.request(method, f"{session.path}/{path}", b"x" if method in ("PUT", "POST") else None)
    assert reply.status < 500 or reply.body["error"]["code"] == "disk_full", (reply.status, reply.body)
    assert session.service.run(**HELLO)["stdout"] == "hi\n"
    assert session.run("echo usable")["stdout"] == "usable\n"


def test_a_flood_of_changes_leaves_the_session_and_is_told_as_lost(session):
    session.run("mkdir flood")
    made = session.service.post(f"{session.path}/files/watchers", json={"path": "flood", "recursive": True})
    assert made.status == 201, made.body
    events = f"{session.path}/files/watchers/{made.body['id']}/events"
    flood = session.start(
        "cd flood; while :; do for i in $(seq 300); do mkdir -p d$i/e; : > d$i/e/f; mv d$i x$i; rm -r x$i; done; done"
    ).body["id"]
    deadline = time.monotonic() + 30
    while "overflow" not in {item["event"] for item in session.service.get(events).body["data"]}:
        assert session.service.get(f"{session.path}/files/stat?path=/work").status == 200
        assert time.monotonic() < deadline, "a flood is lost in part"
        time.sleep(0.1)
    session.works()
    assert session.service.request("DELETE", f"{session.path}/processes/{flood}").status == 200
    assert len(session.service.get(events).body["data"]) <= 1001
    session.run("rm -rf flood/*")
    session.works()


def test_watched_trees_have_a_bound(session):
    made = session.service.post(f"{session.path}/files/watchers", json={"path": "/work", "recursive": True}).body
    session.run("mkdir wide; cd wide; for i in $(seq 6000); do mkdir d$i; done", timeout_ms=30_000)
    time.sleep(0.5)
    told = session.service.get(f"{session.path}/files/watchers/{made['id']}/events").body["data"]
    assert "overflow" in {item["event"] for item in told}
    session.works()


def test_a_tar_of_a_million_entries_ends_at_the_bound(session):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("same"))
    one = held.getvalue()[:512]
    reply = session.service.request("PUT", f"{session.path}/files/archive?path=many", one * 110_000, timeout=200)
    assert (reply.status, reply.body["error"]["code"]) == (400, "invalid_archive"), reply.body
    assert "more than 100000 entries" in reply.body["error"]["message"]
    session.works()


def test_bodies_that_are_no_process_are_refused(session):
    for body in (
        b"[]",
        b"{",
        b'{"argv": [[]]}',
        b'{"argv": ["' + b"a" * 200_000 + b'"]}',
        json.dumps({"argv": ["x"] * 300}).encode(),
    ):
        reply = session.service.post(f"{session.path}/processes", data=body)
        assert reply.status == 400, (reply.status, reply.body)
    session.works()

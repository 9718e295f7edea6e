"""Sessions, on the real service: created, run in, looked at, ended; their processes and their files."""

from __future__ import annotations

import base64
import hashlib
import os
import time

import pytest

MIB = 1024 * 1024


def refused(reply, status, code, param=None):
    assert (reply.status, reply.body["error"]["code"]) == (status, code), reply.body
    assert reply.body["error"]["param"] == param


def create(service, *, token=None, **fields):
    token = token or service.token
    reply = service.post("/v1/sessions", json={"language": "bash", **fields}, token=token)
    assert reply.status == 201, reply.body
    return reply.body


def delete(service, session, token=None):
    return service.request("DELETE", f"/v1/sessions/{session['id']}", token=token or service.token)


@pytest.fixture(scope="module")
def session(service):
    """A bash session that several tests use; each has names of its own."""
    made = create(service)
    yield made
    assert delete(service, made).status == 200


@pytest.fixture
def at(service, session):
    """Call something of the session: a path below it."""

    def call(method, path, **options):
        body = options.pop("data", None)
        if "json" in options:
            return service.post(f"/v1/sessions/{session['id']}{path}", json=options.pop("json"), **options)
        return service.request(method, f"/v1/sessions/{session['id']}{path}", body, **options)

    return call


# -- sessions ----------------------------------------------------------------------------------------


def test_a_session_lives_until_it_is_deleted(service):
    made = create(service, name="life", metadata={"of": "test"}, limits={"memory_mb": 128})
    assert (made["status"], made["keeps"], made["runs"]) == ("ready", "files", 0)
    assert made["limits"] == {"memory_mb": 128, "cpus": 1.0, "pids": 128, "disk_mb": 64}
    assert service.get(f"/v1/sessions/{made['id']}").body["metadata"] == {"of": "test"}
    listed = service.get("/v1/sessions?status=live&name=life").body
    assert [one["id"] for one in listed["data"]] == [made["id"]]
    assert [delete(service, made).body["deleted"] for _ in range(2)] == [True, True]
    ended = service.get(f"/v1/sessions/{made['id']}").body
    assert (ended["status"], ended["end_reason"], ended["expires_at"]) == ("ended", "deleted", None)
    refused(service.get(f"/v1/sessions/{made['id']}/processes"), 410, "session_ended", "id")
    assert service.get("/v1/sessions?status=live&name=life").body["data"] == []


def test_a_name_finds_the_live_session(service):
    made = create(service, name="once")
    again = service.post("/v1/sessions", json={"language": "bash", "name": "once"})
    assert (again.status, again.body["id"]) == (200, made["id"])
    refused(
        service.post("/v1/sessions", json={"language": "bash", "name": "once", "limits": {"memory_mb": 64}}),
        409,
        "session_differs",
        "name",
    )
    delete(service, made)
    assert create(service, name="once")["id"] != made["id"]
    delete(service, {"id": service.get("/v1/sessions?status=live&name=once").body["data"][0]["id"]})


def test_an_idle_session_ends_by_itself(service):
    made = create(service, idle_timeout_s=1)
    deadline = time.monotonic() + 20
    while service.get(f"/v1/sessions/{made['id']}").body["status"] != "ended" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert service.get(f"/v1/sessions/{made['id']}").body["end_reason"] == "idle"


def test_a_session_of_another_key_is_unknown(service, session):
    path = f"/v1/sessions/{session['id']}"
    token = service.other_token
    refused(service.get(path, token=token), 404, "session_not_found", "id")
    refused(service.request("DELETE", path, token=token), 404, "session_not_found", "id")
    refused(service.post(f"{path}/runs", json={"code": "true"}, token=token), 404, "session_not_found", "id")
    refused(service.get(f"{path}/files?path=/etc/passwd", token=token), 404, "session_not_found", "id")
    refused(service.request("PUT", f"{path}/files?path=x", b"x" * MIB, token=token), 404, "session_not_found", "id")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_field", "language"),
        ({"language": "nope"}, "unknown_language", "language"),
        ({"language": "bash", "colour": 1}, "unknown_field", "colour"),
        ({"language": "bash", "limits": {"timeout_ms": 5}}, "unknown_field", "limits.timeout_ms"),
        ({"language": "bash", "limits": {"memory_mb": 1}}, "limit_below_minimum", "limits.memory_mb"),
        ({"language": "bash", "limits": {"memory_mb": 10**9}}, "limit_exceeds_maximum", "limits.memory_mb"),
        ({"language": "bash", "idle_timeout_s": 0}, "invalid_value", "idle_timeout_s"),
        ({"language": "bash", "max_age_s": 10**9}, "invalid_value", "max_age_s"),
        ({"language": "bash", "name": "with space"}, "invalid_value", "name"),
        ({"language": "bash", "name": "x" * 129}, "invalid_value", "name"),
        ({"language": "bash", "files": [{"path": "../x", "content": ""}]}, "invalid_path", "files.0.path"),
        ({"language": "bash", "files": [{"path": "x", "id": "file_x"}]}, "file_not_found", "files.0.id"),
        (
            {"language": "bash", "files": [{"path": "x", "content": "", "root": "work"}]},
            "invalid_value",
            "files.0.root",
        ),
        ({"language": "bash", "limits": {"disk_mb": 0}}, "limit_below_minimum", "limits.disk_mb"),
        ({"language": "bash", "limits": {"disk_mb": 449}}, "limit_exceeds_maximum", "limits.disk_mb"),
        ({"language": "bash", "workdir": "/tmp"}, "invalid_value", "workdir"),
        ({"language": "bash", "outputs": "../x"}, "invalid_path", "outputs"),
        ({"language": "bash", "outputs": "/etc"}, "invalid_path", "outputs"),
        ({"language": "bash", "outputs": "inputs/x"}, "invalid_path", "outputs"),
        ({"language": "bash", "env": {"A B": "x"}}, "invalid_value", "env"),
    ],
)
def test_a_session_that_cannot_be_is_refused(service, body, code, param):
    refused(service.post("/v1/sessions", json=body), 400, code, param)


# -- runs --------------------------------------------------------------------------------------------


def run(at, code=None, **fields):
    reply = at("POST", "/runs", json={"code": code, **fields} if code else fields)
    assert reply.status == 200, reply.body
    return reply.body


def test_files_carry_over_from_run_to_run(at, session):
    first = run(at, "echo 42 > kept; echo $GREETING", env={"GREETING": "hello"})
    assert (first["stdout"], first["session_id"], first["limits"]["memory_mb"]) == ("hello\n", session["id"], 512)
    assert run(at, 'cat kept; echo "$GREETING."')["stdout"] == "42\n.\n"


def test_a_run_says_what_it_changed_in_outputs(service, at):
    first = run(at, "echo a > outputs/a; mkdir -p outputs/d; echo b > outputs/d/b")
    assert [item["path"] for item in first["artifacts"]] == ["a", "d/b"]
    second = run(at, "echo bb > outputs/d/b; ln -s /etc/passwd outputs/link; echo c > outputs/c")
    assert [item["path"] for item in second["artifacts"]] == ["c", "d/b"]
    assert [item["reason"] for item in second["skipped_artifacts"]] == ["symlink"]
    path = second["artifacts"][1]["url"].partition("/v1/")[2]
    assert service.get(f"/v1/{path}", token=None).raw == b"bb\n"


def test_a_run_that_takes_too_long_ends_with_all_that_it_started(at):
    code = "setsid sleep 1234 & sleep 1235 & (setsid sleep 1236 &); wait; sleep 100"
    ended = run(at, code, limits={"timeout_ms": 1500})
    assert (ended["status"], ended["timed_out"]) == ("timeout", True)
    assert run(at, "ps -eo args 2>/dev/null | grep -c 'sleep 123' || grep -l 'sleep' /proc/[0-9]*/comm | wc -l")[
        "stdout"
    ] in ("0\n", "1\n")


def test_a_run_that_is_too_large_leaves_the_session_alive(service):
    made = create(service, language="python", limits={"memory_mb": 128})
    path = f"/v1/sessions/{made['id']}/runs"
    body = {"code": "x = bytearray(1 << 30)", "limits": {"timeout_ms": 30_000}}
    ended = service.post(path, json=body).body
    assert (ended["status"], ended["oom_killed"]) == ("oom", True)
    assert service.post(path, json={"code": "print(2)"}).body["stdout"] == "2\n"
    delete(service, made)


def test_deleting_a_session_cancels_its_run(service):
    made = create(service)
    path = f"/v1/sessions/{made['id']}/runs"
    body = {"code": "echo begun; sleep 50", "background": True, "limits": {"timeout_ms": 60_000}}
    run_id = service.post(path, json=body).body["id"]
    with service.events(f"/v1/runs/{run_id}/events") as events:
        while next(events)[1]["event"] != "stdout":
            pass
    delete(service, made)
    ended = service.ended(run_id)
    assert (ended["status"], ended["stdout"]) == ("cancelled", "begun\n")


def test_a_run_takes_no_limits_of_its_session(at):
    refused(at("POST", "/runs", json={"code": "true", "limits": {"pids": 5}}), 400, "unknown_field", "limits.pids")
    refused(at("POST", "/runs", json={"code": "true", "isolation": "gvisor"}), 400, "unknown_field", "isolation")
    refused(at("POST", "/runs", json={"code": "true", "language": "python"}), 400, "invalid_value", "language")


# -- processes ---------------------------------------------------------------------------------------


def test_a_process_is_waited_for(at):
    reply = at("POST", "/processes", json={"command": "echo out; echo err >&2; exit 4", "wait": True})
    assert reply.status == 200, reply.body
    found = reply.body
    assert (found["status"], found["exit_code"], found["stdout"], found["stderr"]) == ("ended", 4, "out\n", "err\n")


def test_a_process_lives_on_and_reads_what_it_is_sent(at):
    started = at("POST", "/processes", json={"argv": ["cat"], "stdin_open": True, "tag": "reader"})
    assert (started.status, started.body["status"]) == (201, "running")
    assert at("POST", "/processes/tag:reader/stdin", data=b"one\n").status == 200
    data = os.urandom(300_000)
    assert at("POST", "/processes/tag:reader/stdin?close=1", data=data).status == 200
    ended = at("GET", f"/processes/{started.body['id']}?wait_s=20").body
    assert (ended["status"], ended["exit_code"]) == ("ended", 0)
    events = at("GET", f"/processes/{started.body['id']}/events?encoding=base64")
    lines = [__import__("json").loads(line) for line in events.raw.splitlines()]
    assert b"".join(base64.b64decode(line["data"]) for line in lines[:-1]) == b"one\n" + data
    assert lines[-1]["data"]["id"] == started.body["id"]


def test_a_process_is_signalled_and_killed(at):
    started = at(
        "POST", "/processes", json={"command": "trap 'echo got it; exit 7' USR1; while :; do sleep 0.1; done"}
    )
    path = f"/processes/{started.body['id']}"
    while not at("GET", path).body["pid"]:
        time.sleep(0.05)
    time.sleep(0.3)
    assert at("POST", f"{path}/signal", json={"signal": "SIGUSR1"}).status == 200
    ended = at("GET", f"{path}?wait_s=20").body
    assert (ended["exit_code"], ended["stdout"]) == (7, "got it\n")
    sleeper = at("POST", "/processes", json={"argv": ["sleep", "500"]}).body
    killed = at("DELETE", f"/processes/{sleeper['id']}").body
    assert (killed["status"], killed["signal"]) == ("ended", "SIGKILL")


def test_a_process_has_its_own_time(at):
    found = at("POST", "/processes", json={"argv": ["sleep", "50"], "timeout_ms": 300, "wait": True}).body
    assert (found["status"], found["timed_out"], found["signal"]) == ("ended", True, "SIGKILL")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_value", "argv"),
        ({"argv": ["a"], "command": "b"}, "invalid_value", "argv"),
        ({"argv": []}, "invalid_value", "argv"),
        ({"argv": ["a\0b"]}, "invalid_value", "argv.0"),
        ({"argv": ["a"], "cwd": "x" * 2000}, "too_long", "cwd"),
        ({"argv": ["a"], "tag": "a b"}, "invalid_value", "tag"),
        ({"argv": ["a"], "stdin": "x", "stdin_open": True}, "invalid_value", "stdin_open"),
        ({"argv": ["a"], "timeout_ms": 0}, "invalid_value", "timeout_ms"),
        ({"argv": ["a"], "cols": 80}, "unknown_field", "cols"),
    ],
)
def test_a_process_that_cannot_be_is_refused(at, body, code, param):
    refused(at("POST", "/processes", json=body), 400, code, param)


def test_an_unknown_process_and_an_unknown_signal(at):
    refused(at("GET", "/processes/proc_x"), 404, "process_not_found")
    refused(at("POST", "/processes/proc_x/signal", json={"signal": "SIGTERM"}), 404, "process_not_found")
    refused(at("POST", "/processes/1/signal", json={"signal": "SIGFOO"}), 400, "invalid_value", "signal")


# -- files -------------------------------------------------------------------------------------------


def test_a_file_is_written_read_and_removed(at):
    content = os.urandom(2 * MIB)
    written = at("PUT", "/files?path=up/data.bin&mode=640", data=content).body
    assert (written["name"], written["size"], written["mode"], written["type"]) == (
        "data.bin",
        len(content),
        "0640",
        "file",
    )
    whole = at("GET", "/files?path=up/data.bin")
    assert hashlib.sha256(whole.raw).digest() == hashlib.sha256(content).digest()
    assert whole.headers["content-disposition"].startswith("attachment")
    part = at("GET", "/files?path=up/data.bin", headers={"Range": "bytes=10-19"})
    assert (part.status, part.raw, part.headers["content-range"]) == (206, content[10:20], "bytes 10-19/2097152")
    head = at("HEAD", "/files?path=up/data.bin")
    assert (head.status, head.headers["content-length"]) == (200, str(len(content)))
    assert at("GET", "/files?path=up/data.bin", headers={"Range": "bytes=9999999-"}).status == 416
    assert at("DELETE", "/files?path=up/data.bin").body["name"] == "data.bin"
    refused(at("GET", "/files?path=up/data.bin"), 404, "file_not_found", "path")


def test_directories_are_made_listed_moved_and_copied(at):
    assert at("POST", "/files/mkdir", json={"path": "tree/one", "parents": True}).body["type"] == "directory"
    refused(at("POST", "/files/mkdir", json={"path": "tree/one"}), 409, "file_exists", "path")
    at("PUT", "/files?path=tree/one/a.txt", data=b"a")
    at("PUT", "/files?path=tree/b.py", data=b"b")
    listed = at("GET", "/files/list?path=tree&depth=5").body
    assert ([item["name"] for item in listed["data"]], listed["has_more"]) == (["b.py", "one", "one/a.txt"], False)
    assert [item["name"] for item in at("GET", "/files/list?path=tree&depth=5&glob=*.txt").body["data"]] == [
        "one/a.txt"
    ]
    assert at("GET", "/files/list?path=tree&depth=5&limit=1").body["has_more"] is True
    assert at("POST", "/files/copy", json={"from": "tree", "to": "/tmp/copy"}).body["path"] == "/tmp/copy"
    refused(
        at("POST", "/files/move", json={"from": "tree/b.py", "to": "/tmp/copy/b.py"}), 409, "file_exists", "path"
    )
    moved = at("POST", "/files/move", json={"from": "tree/b.py", "to": "/tmp/copy/b.py", "overwrite": True})
    assert (moved.status, at("GET", "/files?path=/tmp/copy/b.py").raw) == (200, b"b")
    assert at("POST", "/files/chmod", json={"path": "tree/one/a.txt", "mode": "600"}).body["mode"] == "0600"
    refused(at("DELETE", "/files?path=tree"), 409, "file_exists", "path")
    assert at("DELETE", "/files?path=tree&recursive=1").status == 200
    refused(at("GET", "/files/stat?path=tree"), 404, "file_not_found", "path")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("path=/dev/zero", 409, "not_a_file"),
        ("path=/work", 409, "not_a_file"),
        ("path=pipe", 409, "not_a_file"),
        ("path=/proc/1/mem", 403, "file_not_permitted"),
        ("path=a%00b", 400, "invalid_path"),
        ("path=" + "x" * 1025, 400, "invalid_path"),
        ("path=", 400, "invalid_path"),
    ],
)
def test_what_is_no_file_is_not_read(at, query, status, code):
    run(at, "test -p pipe || mkfifo pipe")
    refused(at("GET", f"/files?{query}"), status, code, "path")


def test_a_name_of_any_bytes_is_listed(at):
    run(at, "mkdir odd && cd odd && touch $'a\\xff\\nb' 'c d'")
    found = at("GET", "/files/list?path=odd").body["data"]
    assert [(item["name"], item.get("raw")) for item in found] == [("a%FF%0Ab", True), ("c d", None)]


def test_a_full_disk_is_told_and_leaves_the_old_file(at):
    at("PUT", "/files?path=small", data=b"old")
    refused(at("PUT", "/files?path=small", data=bytes(300 * MIB), timeout=120), 507, "disk_full", "path")
    assert at("GET", "/files?path=small").raw == b"old"
    assert [item["name"] for item in at("GET", "/files/list?path=/work&glob=.*.part").body["data"]] == []

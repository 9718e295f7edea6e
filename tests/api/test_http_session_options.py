"""The fields of a session and of its runs on the real service: disk, directory, outputs, files, time, compilers."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest

MIB = 1024 * 1024


@contextmanager
def opened(service, language="bash", **fields):
    reply = service.post("/v1/sessions", json={"language": language, **fields})
    assert reply.status == 201, reply.body
    try:
        yield Inside(service, reply.body)
    finally:
        service.request("DELETE", f"/v1/sessions/{reply.body['id']}")


class Inside:
    """The calls of one session."""

    def __init__(self, service, made):
        self.service = service
        self.made = made
        self.path = f"/v1/sessions/{made['id']}"

    def run(self, code=None, **fields):
        body = fields if code is None else {"code": code, **fields}
        reply = self.service.post(f"{self.path}/runs", json=body)
        assert reply.status == 200, reply.body
        return reply.body

    def says(self, code, **fields):
        ended = self.run(code, **fields)
        assert ended["status"] == "succeeded", ended
        return ended["stdout"]


def paths(ended):
    return [item["path"] for item in ended["artifacts"]]


def upload(service, content):
    reply = service.upload(content)
    assert reply.status == 200, reply.body
    return reply.body["id"]


# -- disk --------------------------------------------------------------------------------------------


def test_a_disk_has_the_size_and_the_inodes_that_were_asked_for(service):
    with opened(service, limits={"memory_mb": 1024, "disk_mb": 400}) as inside:
        assert inside.made["limits"] == {"memory_mb": 1024, "cpus": 1.0, "pids": 128, "disk_mb": 400}
        size = "df --output=size,itotal -k {} | tail -1"
        assert inside.says(size.format("/work")).split() == [str(400 * 1024), str(400 * 64)]
        assert inside.says(size.format("/tmp")).split() == [str((1024 - 400) * 256), "16384"]
        assert inside.says(size.format("/dev/shm")).split() == [str((1024 - 400) * 128), "16384"]


@pytest.mark.parametrize(("memory_mb", "disk_mb"), [(64, 32), (128, 64), (200, 136), (512, 256), (1024, 256)])
def test_a_disk_has_a_size_by_default(service, memory_mb, disk_mb):
    with opened(service, limits={"memory_mb": memory_mb}) as inside:
        assert inside.made["limits"]["disk_mb"] == disk_mb
        assert inside.says("df --output=size -m /work | tail -1").strip() == str(disk_mb)


# -- directory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workdir", ["/work", "/home/user", "/workspace", "/mnt/data"])
def test_programs_find_their_work_where_the_session_says(service, workdir):
    with opened(service, workdir=workdir) as inside:
        assert inside.made["workdir"] == workdir
        assert inside.says("echo $PWD $HOME $(pwd); cd; echo x > f; cat /work/f $PWD/f") == (
            f"{workdir} {workdir} {workdir}\nx\nx\n"
        )
        started = inside.service.post(
            f"{inside.path}/processes", json={"argv": ["printenv", "PWD"], "wait": True}
        ).body
        assert started["stdout"] == f"{workdir}\n"
        body = {"argv": ["printenv", "PWD"], "cwd": "/tmp", "wait": True}
        assert inside.service.post(f"{inside.path}/processes", json=body).body["stdout"] == "/tmp\n"


def test_a_variable_of_the_client_goes_before_the_directory(service):
    with opened(service, workdir="/workspace", env={"HOME": "/tmp"}) as inside:
        assert inside.says("echo $HOME $PWD") == "/tmp /workspace\n"


# -- outputs -----------------------------------------------------------------------------------------


def test_a_session_has_its_directory_of_outputs(service):
    with opened(service, outputs="results/plots") as inside:
        assert inside.made["outputs"] == "results/plots"
        first = inside.run("mkdir -p results/plots/x; echo 1 > results/plots/x/a; echo 2 > outputs/b")
        assert paths(first) == ["x/a"]
        assert paths(inside.run("echo 3 > outputs/c; echo 4 > d", outputs=".")) == ["d", "outputs/c"]
        assert paths(inside.run("echo same")) == []


def test_all_of_work_is_the_outputs_but_what_was_put_in(service):
    file_id = upload(service, b"given")
    with opened(service, outputs=".", files=[{"path": "own.txt", "content": "1"}]) as inside:
        given = [{"path": "data.txt", "id": file_id}, {"path": "beside.txt", "id": file_id, "root": "work"}]
        first = inside.run("echo new > new; mkdir -p .git; touch .git/x .hidden inputs/y", files=given)
        assert paths(first) == ["new"]
        assert paths(inside.run("echo changed >> own.txt; echo changed >> beside.txt")) == ["beside.txt", "own.txt"]


def test_what_changes_between_two_runs_is_no_output_of_the_second(service):
    with opened(service) as inside:
        assert paths(inside.run("echo 1 > outputs/run")) == ["run"]
        service.request("PUT", f"{inside.path}/files?path=outputs/put", b"1")
        assert paths(inside.run("true")) == []
        service.post(f"{inside.path}/processes", json={"command": "echo 2 > outputs/process", "wait": True})
        assert paths(inside.run("true")) == []
        background = "(sleep 0.4; echo 3 > outputs/late) & echo 1 > outputs/early"
        assert paths(inside.run(background)) == ["early"]
        time.sleep(1)
        assert paths(inside.run("true")) == []
        assert paths(inside.run("echo again > outputs/late")) == ["late"]


def test_a_single_use_run_has_its_directory_of_outputs(service):
    code = "mkdir -p results/d; echo 1 > results/d/a; echo 2 > outputs/b; echo 3 > c; echo 4 > .d"
    assert paths(service.run("bash", code, outputs="results")) == ["d/a"]
    assert paths(service.run("bash", code, outputs="results/d")) == ["a"]
    assert paths(service.run("bash", code)) == ["b"]
    files = [{"path": "own.txt", "content": "1"}, {"path": "kept.txt", "content": "1"}]
    whole = service.run("bash", f"{code}; echo x >> own.txt", outputs=".", files=files)
    assert paths(whole) == ["c", "outputs/b", "own.txt", "results/d/a"]


def test_a_link_in_the_place_of_outputs_leads_nowhere(service):
    ended = service.run("bash", "mkdir -p a; ln -s /etc a/b", outputs="a/b/c")
    assert (paths(ended), [item["reason"] for item in ended["skipped_artifacts"]]) == ([], [])
    ended = service.run("bash", "rmdir a/b; ln -s /etc a/b", outputs="a/b")
    assert (paths(ended), [item["reason"] for item in ended["skipped_artifacts"]]) == ([], ["symlink"])
    with opened(service, outputs="out") as inside:
        assert paths(inside.run("ln -s /etc out")) == []


def test_outputs_of_a_run_that_cannot_be_are_refused(service):
    for outputs in ("../x", "/x", "", "inputs", "a/../b", "x" * 2000):
        reply = service.post("/v1/runs", json={"language": "bash", "code": "true", "outputs": outputs})
        assert (reply.status, reply.body["error"]["param"]) == (400, "outputs"), outputs


# -- files -------------------------------------------------------------------------------------------


def test_a_session_begins_with_its_files(service):
    file_id = upload(service, b"stored")
    files = [
        {"path": "pkg/inline.txt", "content": "aW4=", "encoding": "base64"},
        {"path": "data.csv", "id": file_id},
        {"path": "pkg/data.csv", "id": file_id, "root": "work"},
    ]
    with opened(service, files=files) as inside:
        assert inside.says("cat pkg/inline.txt inputs/data.csv pkg/data.csv") == "instoredstored"
    ended = service.run("bash", "cat inputs/data.csv pkg/data.csv", files=files[1:])
    assert ended["stdout"] == "storedstored"


def test_a_stored_file_is_not_put_over_the_program(service):
    file_id = upload(service, b"stored")
    body = {"language": "bash", "code": "true", "files": [{"path": "main.sh", "id": file_id, "root": "work"}]}
    reply = service.post("/v1/runs", json=body)
    assert (reply.status, reply.body["error"]["code"]) == (400, "duplicate_path")


def test_files_that_do_not_fit_leave_no_session(service):
    file_id = upload(service, bytes(40 * MIB))
    body = {
        "language": "bash",
        "name": "too-full",
        "limits": {"memory_mb": 64},
        "files": [{"path": "a", "id": file_id}],
    }
    reply = service.post("/v1/sessions", json=body)
    assert (reply.status, reply.body["error"]["code"]) == (507, "disk_full")
    assert service.get("/v1/sessions?status=live&name=too-full").body["data"] == []


# -- runs --------------------------------------------------------------------------------------------


def test_a_run_in_a_session_has_a_longer_time(service):
    with opened(service) as inside:
        assert inside.run("true")["limits"]["timeout_ms"] == 60_000
        assert inside.run("true", limits={"timeout_ms": 3_600_000})["limits"]["timeout_ms"] == 3_600_000
        reply = service.post(f"{inside.path}/runs", json={"code": "true", "limits": {"timeout_ms": 3_600_001}})
        assert (reply.status, reply.body["error"]["code"]) == (400, "limit_exceeds_maximum")


def test_runs_are_executed_in_order_and_sixteen_may_wait(service):
    with opened(service) as inside:
        begun = threading.Event()
        background = {"code": "touch begun; sleep 3", "background": True}
        assert service.post(f"{inside.path}/runs", json=background).status == 202
        while service.get(f"{inside.path}/files/stat?path=begun").status != 200:
            begun.wait(0.05)
        ids = []
        for number in range(16):
            body = {"code": f"echo {number} >> order", "background": True}
            reply = service.post(f"{inside.path}/runs", json=body)
            assert reply.status == 202, reply.body
            ids.append(reply.body["id"])
            begun.wait(0.02)
        busy = service.post(f"{inside.path}/runs", json={"code": "true"})
        assert (busy.status, busy.body["error"]["code"]) == (409, "session_busy")
        assert [service.ended(run_id)["status"] for run_id in ids] == ["succeeded"] * 16
        assert inside.says("tr '\\n' ' ' < order").split() == [str(number) for number in range(16)]


GO = 'package main\n\nimport ("fmt"; "os")\n\nfunc main() {{ os.WriteFile("made", []byte("{0}"), 0644); fmt.Println("{0}") }}\n'


def test_a_compiled_language_compiles_each_run(service):
    with opened(service, "go", limits={"memory_mb": 128}) as inside:
        assert (inside.made["keeps"], inside.made["limits"]["memory_mb"]) == ("files", 768)
        first = inside.run(GO.format("one"))
        assert (first["stdout"], first["compile"]["exit_code"]) == ("one\n", 0)
        broken = inside.run("package main\n\nfunc main() { nothing() }\n")
        assert (broken["status"], broken["exit_code"]) == ("failed", None)
        assert "undefined: nothing" in broken["compile"]["stderr"] + broken["compile"]["stdout"]
        second = inside.run(GO.format("two"), args=["x"])
        assert second["stdout"] == "two\n"
        assert service.get(f"{inside.path}/files?path=made").raw == b"two"


def test_a_program_that_is_still_running_does_not_hinder_the_next_compilation(service):
    code = 'package main\n\nimport "time"\n\nfunc main() { time.Sleep(time.Minute) }\n'
    with opened(service, "go") as inside:
        live = service.post(f"{inside.path}/runs", json={"code": code, "background": True}).body["id"]
        with service.events(f"/v1/runs/{live}/events") as events:
            while (event := next(events)[1])["event"] != "phase" or event["data"] != {"name": "run"}:
                pass
        assert service.post(f"/v1/runs/{live}/cancel", json={}).status in (200, 202)
        assert inside.run(GO.format("next"))["stdout"] == "next\n"


def test_typescript_runs_in_a_session(service):
    with opened(service, "typescript") as inside:
        ended = inside.run("import { writeFileSync } from 'fs'; const n: number = 2; writeFileSync('n', `${n}`)")
        assert ended["status"] == "succeeded", ended
        assert inside.says("import { readFileSync } from 'fs'; console.log(readFileSync('n', 'utf8'))") == "2\n"


# -- usage -------------------------------------------------------------------------------------------


def disk_mb(inside):
    return inside.service.get(inside.path).body["usage"]["disk_mb"]


def test_usage_has_what_work_holds_also_of_a_frozen_session_and_of_an_ended_one(service):
    with opened(service, freeze_after_s=1) as inside:
        assert disk_mb(inside) == 0
        inside.says("echo x > small; echo y > /tmp/elsewhere")
        assert disk_mb(inside) == 1
        inside.says("head -c 20M /dev/zero > large; exec 9> gone; head -c 5M /dev/zero >&9; rm gone")
        assert disk_mb(inside) == 21
        deadline = time.monotonic() + 20
        while service.get(inside.path).body["status"] != "frozen":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert disk_mb(inside) == 21
        service.request("DELETE", f"{inside.path}/files?path=large")
        assert disk_mb(inside) == 1
    assert disk_mb(inside) == 1


def test_a_program_cannot_have_another_file_system_measured(service):
    with opened(service) as inside:
        inside.run("rm -rf /work 2>/dev/null; mv /work /tmp/w; ln -s / /tmp/work; true")
        assert disk_mb(inside) == 0
        assert disk_mb(inside) <= inside.made["limits"]["disk_mb"]


def test_a_run_says_whether_something_else_ran_in_its_session_meanwhile(service):
    with opened(service) as inside:
        assert inside.run("true")["usage"]["shared"] is False
        assert inside.run("true & wait; (true)")["usage"]["shared"] is False
        service.post(f"{inside.path}/processes", json={"command": "sleep 60", "tag": "s"})
        assert inside.run("true")["usage"]["shared"] is True
        service.request("DELETE", f"{inside.path}/processes/tag:s")
        assert inside.run("true")["usage"]["shared"] is False
        started = service.post(f"{inside.path}/runs", json={"code": "sleep 2", "background": True}).body
        time.sleep(0.7)
        service.post(f"{inside.path}/processes", json={"command": "true", "wait": True})
        assert service.ended(started["id"])["usage"]["shared"] is True
        inside.run("setsid sleep 60 > /dev/null 2>&1 &")
        assert inside.run("true")["usage"]["shared"] is True
    assert service.run("bash", "true")["usage"]["shared"] is False

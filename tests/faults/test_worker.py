"""The worker stopped, killed, crowded and left alone: nothing is lost in silence and nothing stays behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from config.ids import new_id
from dispatch import ClientGone, WorkerLost, WorkerUnavailable
from protocol.job import Job
from protocol.result import Refusal
from tests.faults.conftest import SHARED_UIDS
from tests.support.workers import Worker, until


class Running:
    """A run on a thread of its own."""

    def __init__(self, worker, *arguments, **fields):
        self.result = self.error = None

        def go():
            try:
                self.result = worker.run(*arguments, **fields)
            except (WorkerLost, WorkerUnavailable, ClientGone) as e:
                self.error = e

        self.thread = threading.Thread(target=go)
        self.thread.start()

    def end(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.result


def queue(worker):
    return worker.dispatcher.status()["queue"]


def test_a_killed_workers_sandboxes_die_by_themselves(start_worker):
    worker = start_worker()
    busy = Running(worker, "bash", "trap '' TERM HUP; while :; do :; done", limits={"timeout_ms": 60_000})
    until(lambda: queue(worker)["running"] == 1)
    assert len(worker.sandbox_processes()) >= 5
    worker.stop(signal.SIGKILL)
    busy.end()
    assert isinstance(busy.error, WorkerLost)
    until(lambda: worker.sandbox_processes() == [])
    again = start_worker()  # reaps the groups
    assert again.run(code="print(2)")["stdout"] == "2\n"
    assert "removed the remains of a killed worker" in again.log.read_text()


def test_a_stopped_worker_lets_runs_finish(start_worker):
    worker = start_worker(DRAIN_S="20")
    run = Running(worker, "python", "import time; time.sleep(1); print('done')")
    until(lambda: queue(worker)["running"] == 1)
    worker.process.terminate()
    assert run.end()["stdout"] == "done\n"
    assert worker.stop() == 0
    assert worker.groups() == []


def test_a_stopped_worker_does_not_wait_for_ever(start_worker):
    worker = start_worker(DRAIN_S="0.3")
    run = Running(worker, "bash", "sleep 50", limits={"timeout_ms": 60_000})
    until(lambda: queue(worker)["running"] == 1)
    began = time.monotonic()
    assert worker.stop() == 0
    run.end()
    assert time.monotonic() - began < 8
    assert worker.groups() == []


def test_a_stopping_worker_gives_its_results_to_an_api_that_finds_it_late(start_worker):
    worker = start_worker(DRAIN_S="0.3")
    job = Job(new_id("run"), "bash", "echo begun; sleep 50", key="test", limits={"timeout_ms": 60_000})
    assert worker.dispatcher.submit(job) is None
    until(lambda: worker.dispatcher.status()["queue"]["running"] == 1)
    worker.dispatcher.close()
    began = time.monotonic()
    worker.process.terminate()
    until(lambda: '"run ended"' in worker.log.read_text())
    with pytest.raises(WorkerUnavailable):
        worker.dispatcher.status()
    assert isinstance(worker.run("bash", "true"), Refusal)
    listing, ended = itertools.islice(worker.dispatcher.collect(), 2)
    assert job.run_id in listing.data["live"]
    assert (ended.data["run_id"], ended.data["result"]["stdout"]) == (job.run_id, "begun\n")
    worker.dispatcher.acknowledge(job.run_id)
    assert worker.stop() == 0
    assert time.monotonic() - began < 8
    assert "not acknowledged" not in worker.log.read_text()


@pytest.fixture
def freezer():
    """Freeze processes by their pids, and thaw them. One that is frozen does not even die when it is killed."""
    hierarchy = Path("/sys/fs/cgroup/freezer")
    if not hierarchy.is_dir():
        pytest.skip("there is no freezer of cgroup v1 here, and that of v2 lets the killed die")
    group = hierarchy / "runyard-test-frozen"
    group.mkdir()

    def freeze(pids):
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")

    def thaw():
        (group / "freezer.state").write_text("THAWED")

    yield freeze, thaw
    thaw()
    until(lambda: (group / "cgroup.procs").read_text() == "")
    group.rmdir()


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has ended
        return ""


def test_a_sandbox_that_is_slow_to_die_is_removed_when_it_has(start_worker, freezer):
    """On an overloaded machine the killed may get no processor for long; nothing of them may stay for ever."""
    freeze, thaw = freezer
    worker = start_worker(WARM_POOL="bash=0")
    run = Running(worker, "bash", "sleep 50", limits={"timeout_ms": 3000})
    until(lambda: "sleep" in map(name_of, worker.run_processes()))
    freeze(worker.run_processes())
    assert run.end()["timed_out"]
    until(lambda: "does not end" in worker.log.read_text(), 30)
    assert worker.run_processes() != []
    assert worker.run("bash", "echo 2")["stdout"] == "2\n"
    thaw()
    until(lambda: worker.run_groups() == [], 30)
    assert "not removed in full" not in worker.log.read_text()


def test_a_client_that_leaves_ends_its_run(shared_worker):
    worker = shared_worker
    ours, theirs = socket.socketpair()
    with ours:
        run = Running(worker, "bash", "sleep 50", limits={"timeout_ms": 60_000}, client_fd=ours.fileno())
        until(lambda: queue(worker)["running"] == 1)
        theirs.close()
        run.end()
    assert isinstance(run.error, ClientGone)
    until(lambda: queue(worker)["running"] == 0)


def test_beyond_the_ceiling_runs_wait_and_beyond_the_queue_they_are_refused(start_worker):
    worker = start_worker(MAX_RUNS="1", QUEUE_MAX="1")
    first = Running(worker, "bash", "sleep 1.5")
    until(lambda: queue(worker)["running"] == 1)
    second = Running(worker, "bash", "echo second")
    until(lambda: queue(worker)["waiting"] == 1)
    refused = worker.run("bash", "echo third")
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.code) == (503, "overloaded")
    assert refused.retry_after_s >= 1
    assert first.end()["status"] == "succeeded"
    result = second.end()
    assert (result["stdout"], result["usage"]["queue_ms"] > 500) == ("second\n", True)


def test_a_run_waits_no_longer_than_it_may(start_worker):
    worker = start_worker(MAX_RUNS="1", QUEUE_WAIT_S="0.2")
    first = Running(worker, "bash", "sleep 1.5")
    until(lambda: queue(worker)["running"] == 1)
    refused = worker.run("bash", "echo second")
    assert (refused.status, refused.code) == (503, "overloaded")
    first.end()


def test_the_sum_of_memory_is_a_ceiling(start_worker):
    worker = start_worker(MEMORY_BUDGET_MB="600")
    first = Running(worker, "bash", "sleep 1", limits={"memory_mb": 512})
    until(lambda: queue(worker)["running"] == 1)
    assert worker.run("bash", "echo x", limits={"memory_mb": 256})["usage"]["queue_ms"] > 200
    first.end()


def test_another_keys_run_does_not_wait_behind_fifty(start_worker):
    worker = start_worker(MAX_RUNS="1", QUEUE_MAX="60", WARM_POOL="bash=4")
    order = []
    first = Running(worker, "bash", "sleep 1")
    until(lambda: queue(worker)["running"] == 1)

    def run(key):
        worker.run("bash", "true", key=key)
        order.append(key)

    threads = [threading.Thread(target=run, args=("a",)) for _ in range(50)]
    for thread in threads:
        thread.start()
    until(lambda: queue(worker)["waiting"] == 50)
    last = threading.Thread(target=run, args=("b",))
    last.start()
    until(lambda: queue(worker)["waiting"] == 51)
    first.end()
    for thread in [*threads, last]:
        thread.join(60)
    assert order.index("b") <= 3


def test_thirty_at_once_all_come_back(start_worker):
    worker = start_worker(MAX_RUNS="16")
    runs = [Running(worker, "python", f"print({n})") for n in range(30)]
    assert [run.end()["stdout"] for run in runs] == [f"{n}\n" for n in range(30)]


def test_nothing_accumulates(start_worker):
    worker = start_worker(LANGUAGES="python,bash,node")
    pid = worker.process.pid

    def held():
        return {
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "mounts": Path(f"/proc/{pid}/mountinfo").read_text().count("\n"),
            "groups": len(worker.groups()),
            "children": len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
        }

    def settle():
        worker.wait_until_filled()
        time.sleep(0.3)
        return held()

    def some(count):
        for number in range(count):
            worker.run("python", "print(1)")
            worker.run("bash", "(sleep 9 &) ; exit 3")
            if number % 5 == 0:
                worker.run("python", "x = bytearray(99 << 20)", limits={"memory_mb": 32})
                worker.run("bash", "sleep 9", limits={"timeout_ms": 50})
                worker.run("node", "console.log(1)", limits={"memory_mb": 16})

    some(5)
    before = settle()
    some(25)
    after = settle()
    assert after.pop("threads") <= before.pop("threads")
    assert after == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ENGINE": "docker", "DOCKER_HOST": "unix:///nowhere.sock"}, "DOCKER_HOST=unix:///nowhere.sock"),
        ({"SECCOMP_PROFILE": "/nowhere.json"}, "SECCOMP_PROFILE=/nowhere.json"),
        ({"APPARMOR_PROFILE": "no-such-profile"}, "APPARMOR_PROFILE=no-such-profile"),
        ({"WARM_POOL": "cobol=1"}, "WARM_POOL"),
        ({"LANGUAGES": "cobol"}, "cobol"),
        ({"PORT": "x"}, "PORT"),
        ({"RUNNER_IMAGE_PYTHON": "/nowhere"}, "RUNNER_IMAGE_PYTHON=/nowhere: no such file"),
        ({"RUNNER_IMAGE_PYTHON": "/etc"}, "RUNNER_IMAGE_PYTHON=/etc: is neither a root file system"),
        ({"RUNNER_IMAGE_PYTHON": "/etc/passwd"}, "passwd is no archive"),
        ({"RUNNER_IMAGE_COBOL": "/"}, "RUNNER_IMAGE_COBOL: unknown language"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_at_start(service, state, settings, words):
    worker = Worker(state, service.images, **settings)
    assert worker.process.wait(20) == 78
    said = worker.log.read_text()
    assert words in said
    assert "Traceback" not in said


def test_relaxing_security_is_loud(start_worker):
    worker = start_worker(DISABLE_SANDBOX_SECURITY="1")
    result = worker.run("bash", "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status")
    assert (result["isolation"]["seccomp"], result["isolation"]["apparmor"]) == (None, None)
    assert result["isolation"]["relaxed"] is True
    assert result["stdout"] == "NoNewPrivs:\t0\nSeccomp:\t0\n"
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    assert [line["level"] for line in lines if "DISABLE_SANDBOX_SECURITY" in line["message"]] == ["ERROR"]
    # What it does not name is required as ever, and what it names is not claimed.
    posture = worker.dispatcher.status()["posture"]
    assert not {"seccomp", "apparmor", "no_new_privileges"} & set(posture)
    assert {"capabilities", "masked", "mounts", "namespaces"} <= set(posture)
    assert set(posture.values()) == {"ok"}


def test_what_is_not_relaxed_does_not_say_so(shared_worker):
    assert shared_worker.run("bash", "true")["isolation"]["relaxed"] is False


def test_only_api_and_root_may_speak_to_the_worker(shared_worker):
    worker = shared_worker
    path = str(worker.state / "run" / "worker.sock")
    status = os.stat(path)
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o660, 0, SHARED_UIDS)
    os.chmod(path, 0o666)
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(path)
                stranger.sendall(b'{"op":"status"}\n')
                os._exit(0 if stranger.recv(1) == b"" else 1)
        except ConnectionError:
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.chmod(path, 0o660)


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"nonsense", b'{"op":"x"}', b'{"op":"run"}', b'{"op":"run","job":[]}']
)
def test_a_malformed_request_is_refused_and_the_worker_lives(shared_worker, line):
    worker = shared_worker
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(worker.state / "run" / "worker.sock"))
        client.sendall(line + b"\n")
        assert b'"refused"' in client.recv(4096)
    assert worker.run(code="print(1)")["stdout"] == "1\n"

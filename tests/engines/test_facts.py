"""What a run reports: facts from the kernel and the host's own clock, one status derived from them."""

from __future__ import annotations

import time

import pytest

from tests.support.slow_machine import TIME_FACTOR
from tests.support.workers import until

MIB = 1024 * 1024


def test_two_is_two(run, column):
    result = run("python", "print(1+1)")
    assert (result["status"], result["exit_code"], result["stdout"]) == ("succeeded", 0, "2\n")
    assert (result["isolation"]["engine"], result["isolation"]["runtime"]) == (column.engine, column.runtime)
    assert result["isolation"]["user_namespace"] is column.user_namespace
    assert bool(result["isolation"]["seccomp"]) is column.seccomp


def test_a_waiting_sandbox_is_used_as_soon_as_there_is_one(run, column):
    until(lambda: run("python", "print(1)")["isolation"]["source"] == column.source or time.sleep(0.5))


def test_a_command_is_executed_by_a_process_that_has_waited_for_it(run):
    code = "read -r now _ </proc/uptime; s=($(</proc/$$/stat)); echo $(( ${now/./} - ${s[21]} ))"
    # In hundredths of a second, from the fork of the process to the first line of the program.
    until(lambda: int(run("bash", code)["stdout"]) > 30 or time.sleep(0.5))


@pytest.mark.parametrize(
    ("code", "status", "exit_code", "signal"),
    [
        ("exit 0", "succeeded", 0, None),
        ("exit 3", "failed", 3, None),
        ("exit 137", "failed", 137, None),
        ("exit 124", "failed", 124, None),
        ("kill -KILL $$", "failed", None, "SIGKILL"),
        ("kill -SEGV $$", "failed", None, "SIGSEGV"),
        ("kill -TERM $$", "failed", None, "SIGTERM"),
        ("kill -35 $$", "failed", None, "SIGRTMIN+1"),
    ],
)
def test_an_exit_code_is_a_fact_and_not_a_verdict(run, code, status, exit_code, signal):
    result = run("bash", code)
    assert (result["status"], result["exit_code"], result["signal"]) == (status, exit_code, signal)
    assert not (result["timed_out"])
    assert not (result["oom_killed"])
    assert not (result["cancelled"])


def test_wall_time_ends_a_program_and_keeps_what_it_printed(run):
    began = time.monotonic()
    limit_ms = min(30_000, int(300 * TIME_FACTOR))
    result = run("python", "import time\nprint('a', flush=True)\ntime.sleep(60)", limits={"timeout_ms": limit_ms})
    assert (result["status"], result["timed_out"], result["exit_code"]) == ("timeout", True, None)
    assert result["stdout"] == "a\n"
    assert limit_ms <= result["usage"]["wall_ms"] < limit_ms + 1700 * TIME_FACTOR
    assert time.monotonic() - began < 5 * TIME_FACTOR


def test_cpu_time_ends_a_program(run):
    code = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    result = run("python", code, limits={"cpu_ms": 300, "cpus": 2, "timeout_ms": 20_000})
    assert (result["status"], result["timed_out"]) == ("timeout", True)
    assert 250 <= result["usage"]["cpu_ms"] < 1500
    assert result["usage"]["wall_ms"] < 10_000


def test_sleeping_costs_no_cpu_time(run):
    result = run("python", "import time; time.sleep(0.4)", limits={"cpu_ms": 300})
    assert result["status"] == "succeeded"
    assert result["usage"]["cpu_ms"] < 200
    assert result["usage"]["wall_ms"] >= 400


@pytest.mark.parametrize(
    "code",
    [
        "trap '' TERM INT HUP; while :; do :; done",
        "kill -STOP $$",
        "sleep 100 & sleep 100 & wait",
        ":(){ :|:& };: ; wait; sleep 100",
    ],
)
def test_a_program_that_resists_is_dead_at_its_time(run, column, code):
    result = run("bash", code, limits={"timeout_ms": 500, "pids": 30})
    # A kernel of the sandbox's own may run out of tasks before the time is up, and dies of it.
    assert result["status"] in ({"timeout", "killed"} if column.own_kernel else {"timeout"})
    assert result["usage"]["wall_ms"] < 3000


def test_memory_of_the_main_process_is_an_oom(run, column):
    result = run("python", "x = bytearray(400 << 20)", limits={"memory_mb": 64})
    assert (result["status"], result["oom_killed"]) == ("oom", True)
    if column.own_kernel:
        return  # that is who was killed, and no one process
    assert result["signal"] == "SIGKILL"
    # A process that is being killed may still be charged a few pages beyond.
    assert 32 <= result["usage"]["max_rss_mb"] <= 68


def test_memory_of_a_child_is_a_fact_beside_success(run):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(400 << 20)'])"
    result = run("python", code, limits={"memory_mb": 64})
    assert (result["status"], result["oom_killed"], result["exit_code"]) == ("succeeded", True, 0)


def test_memory_can_be_raised_and_work_grows_with_it(run):
    code = "import shutil; x = bytearray(500 << 20); print(shutil.disk_usage('/work').total >> 20)"
    result = run("python", code, limits={"memory_mb": 1024})
    assert (result["status"], result["stdout"]) == ("succeeded", "512\n")
    assert result["usage"]["max_rss_mb"] >= 500


def test_the_smallest_memory_still_runs_a_small_program(run):
    assert run("bash", "echo hi", limits={"memory_mb": 16})["stdout"] == "hi\n"


def test_a_full_work_is_no_space_and_not_an_oom(run):
    code = (
        "import errno\n"
        "for place in ('/work/x', '/tmp/x', '/dev/shm/x'):\n"
        "    with open(place, 'wb', buffering=0) as f:\n"
        "        try:\n"
        "            while True: f.write(bytes(1 << 20))\n"
        "        except OSError as e: print(e.errno == errno.ENOSPC)\n"
    )
    result = run("python", code)
    assert (result["stdout"], result["oom_killed"]) == ("True\nTrue\nTrue\n", False)


def test_inodes_are_bounded(run):
    code = "import os\ntry:\n    for n in range(20000): open(f'{n}', 'w').close()\nexcept OSError as e: print(n <= 16384, e.strerror)"
    assert run("python", code)["stdout"] == "True No space left on device\n"


def test_processes_are_bounded(run):
    code = (
        "import os, time\nn = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(30)\n"
        "        n += 1\nexcept OSError: print(n)"
    )
    assert run("python", code, limits={"pids": 10})["stdout"] == "9\n"


def test_processors_are_bounded(run):
    code = "import os, time\nos.fork()\nt = time.monotonic()\nwhile time.monotonic() - t < 1: pass\nos._exit(0)"
    half = run("python", code, limits={"cpus": 0.5})
    assert half["usage"]["cpu_ms"] < 0.75 * half["usage"]["wall_ms"] + 60


@pytest.mark.parametrize(("size", "truncated"), [(999, False), (1000, False), (1001, True), (500_000, True)])
def test_output_is_kept_up_to_its_cap_and_the_program_runs_on(run, size, truncated):
    code = f"import sys; sys.stdout.write('x' * {size}); sys.stderr.write('y' * {size}); sys.exit(5)"
    result = run("python", code, limits={"max_output_bytes": 1000})
    assert result["exit_code"] == 5
    for name, letter in (("stdout", "x"), ("stderr", "y")):
        assert result[name] == letter * min(size, 1000)
        assert result[f"{name}_truncated"] is truncated


def test_an_endless_flood_is_bounded_in_memory_and_time(run):
    limits = {"timeout_ms": min(60_000, int(700 * TIME_FACTOR))}
    result = run("python", "while True: print('x' * 5000)", limits=limits)
    assert result["status"] == "timeout"
    assert len(result["stdout"]) == MIB
    assert result["usage"]["max_rss_mb"] < 64


def test_output_that_is_not_text_is_replaced(run):
    assert run("bash", "printf 'a\\xff\\xc3b'")["stdout"] == "a\ufffd\ufffdb"


def test_a_run_ends_with_its_main_process(run):
    began = time.monotonic()
    result = run("bash", "(sleep 60; echo late) & (while :; do echo noise >&2; sleep 0.01; done) & echo done")
    assert result["stdout"] == "done\n"
    assert time.monotonic() - began < 5


def test_no_process_that_is_being_started_outlives_the_main_process(run):
    starting = "for i in 1 2 3; do (for j in 1 2 3 4 5 6 7 8; do sleep 60 & done) & done; echo done"
    for _ in range(8):
        assert run("bash", starting, limits={"timeout_ms": 4000})["status"] == "succeeded"


def test_orphans_are_reaped_while_the_program_runs(run):
    code = (
        "for i in $(seq 50); do ( (sleep 0.01) & ) ; done; sleep 0.5\n"
        "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"
    )
    assert run("bash", code)["stdout"] == "0\n"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 8 * MIB])
def test_stdin_arrives_whole_and_ends(run, size):
    code = "import sys, hashlib; d = sys.stdin.buffer.read(); print(len(d), d == b'x' * len(d))"
    assert run("python", code, stdin="x" * size)["stdout"] == f"{size} True\n"


def test_stdin_that_nobody_reads_delays_nothing(run):
    assert run("bash", "exec <&-; echo hi", stdin="x" * (8 * MIB))["stdout"] == "hi\n"
    assert run("bash", "echo hi", stdin="x" * (8 * MIB))["stdout"] == "hi\n"


def test_files_arrive_where_they_belong(run):
    files = {"a/b/c.txt": "é", "big.bin": bytes(range(256)) * 12_000, "empty": b""}
    code = (
        "import hashlib, os; print(open('a/b/c.txt').read(), os.path.getsize('empty'), "
        "hashlib.sha256(open('big.bin', 'rb').read()).hexdigest())"
    )
    import hashlib

    digest = hashlib.sha256(files["big.bin"]).hexdigest()
    assert run("python", code, files=files)["stdout"] == f"é 0 {digest}\n"


def test_inputs_and_outputs_belong_to_the_run(run):
    code = "for d in inputs outputs .; do touch $d/x && [ $(stat -c %u $d) = $(id -u) ] && echo own; done"
    assert run("bash", code)["stdout"] == "own\nown\nown\n"


def test_programs_that_take_all_they_can_do_not_keep_others_from_theirs(run):
    import threading

    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    bombs = [
        threading.Thread(target=run, args=("python", bomb), kwargs={"limits": {"timeout_ms": 4000}})
        for _ in range(12)
    ]
    for thread in bombs:
        thread.start()
    time.sleep(0.5)
    for _ in range(20):  # more than are warm
        assert run("python", "print(1)")["stdout"] == "1\n"
    for thread in bombs:
        thread.join(30)

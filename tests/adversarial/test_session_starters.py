"""Programs that attack the starter of their session, the process that forks for a large PID 1; and what it forks."""

from __future__ import annotations

import time

import pytest

HELLO = {"language": "bash", "code": "echo hi"}
#: Prints the pid of the starter, if there is one. It is ready once its files in /proc are not its user's any more: until
#: then Landlock alone keeps programs from it, which may list its descriptors and change its OOM score.
FIND = (
    r"for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline | grep -q '[s]tarter_main' && ! [ -O $p/environ ] && echo ${p#/proc/}; "
    "done; true"
)
FOUND_WITHIN_S = 10


@pytest.fixture
def session(service, invariants):
    """A python session whose children are forked by a starter from now on."""
    reply = service.post("/v1/sessions", json={"language": "python", "limits": {"memory_mb": 256, "pids": 32}})
    assert reply.status == 201, reply.body
    made = Inside(service, f"/v1/sessions/{reply.body['id']}")
    made.starter = made.await_starter()
    yield made
    service.request("DELETE", made.path)


class Inside:
    """The calls of one session."""

    def __init__(self, service, path):
        self.service, self.path = service, path
        self.starter = ""

    def stat(self):
        return self.service.get(f"{self.path}/files/stat?path=/work")

    def start(self, command, **fields):
        return self.service.post(f"{self.path}/processes", json={"command": command, **fields})

    def printed(self, command, **fields):
        reply = self.start(command, wait=True, **fields)
        assert reply.status in (200, 201), reply.body
        return reply.body["stdout"]

    def await_starter(self):
        """Use the session until there is a starter, and return its pid."""
        deadline = time.monotonic() + FOUND_WITHIN_S
        while not (found := self.printed(FIND).split()):
            assert time.monotonic() < deadline, "there is no starter"
        # What it has forked, such as the keeper of that very program, has its command line, and a greater number.
        return min(found, key=int)


def test_a_starter_is_out_of_reach_of_programs(session):
    attack = f"""
import ctypes, os
place = "/proc/{session.starter}/"
for name, mode in (("mem", "rb"), ("mem", "r+b"), ("environ", "rb"), ("maps", "rb"), ("oom_score_adj", "w")):
    try:
        with open(place + name, mode, **({{"buffering": 0}} if "b" in mode else {{}})) as file:
            file.write("1000") if mode == "w" else file.read(1)
        print("reached", name, mode)
    except OSError:
        pass
try:
    print("reached", os.listdir(place + "fd"))
except OSError:
    pass
libc = ctypes.CDLL(None, use_errno=True)
for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
    if libc.ptrace(request, {session.starter}, None, None) == 0:
        print("reached by ptrace")
try:
    os.setpriority(os.PRIO_PROCESS, {session.starter}, 5)
    os.sched_setaffinity({session.starter}, {{0}})
except OSError:
    pass
print("done")
"""
    reply = session.service.post(f"{session.path}/runs", json={"code": attack})
    assert reply.body["stdout"] == "done\n", reply.body
    assert session.stat().status == 200


def test_what_it_forks_is_as_pid_1_forks_it(session):
    # Its keeper is a child of PID 1; it has no descriptor but its own, no privilege, and the programs' priority.
    assert session.printed("cut -d' ' -f4 /proc/$PPID/stat") == "1\n"
    assert session.printed("ls /proc/self/fd | tr '\\n' ' '") == "0 1 2 3 "  # 3 is ls's own
    assert session.printed("grep -c socket <(ls -l /proc/self/fd)") == "0\n"
    status = session.printed("grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status | tr -d '\\t\\n'")
    assert status == "CapEff:0000000000000000NoNewPrivs:1Seccomp:2"
    assert session.printed("nice") == "0\n"
    assert session.printed("cat /proc/self/oom_score_adj") == "1000\n"
    assert session.printed("echo x > /proc/self/oom_score_adj || echo refused") == "refused\n"
    assert session.printed("kill -l $(bash -c 'kill -USR1 $$; sleep 1'; echo $?)") == "USR1\n"
    assert session.printed("tty; stty size", pty={"cols": 91, "rows": 17}).split() == ["/dev/pts/0", "17", "91"]
    assert session.printed("cat", stdin="in and out") == "in and out"
    assert session.printed("echo $A; pwd", env={"A": "b"}, cwd="/tmp") == "b\n/tmp\n"
    ended = session.start("kill -9 $$", wait=True).body
    assert (ended["status"], ended["exit_code"], ended["signal"]) == ("ended", None, "SIGKILL")
    tree = session.start("(setsid sleep 777 &); sleep 778").body["id"]
    assert session.service.request("DELETE", f"{session.path}/processes/{tree}").body["status"] == "ended"
    assert session.printed("grep -l sleep /proc/[0-9]*/comm | wc -l") == "0\n"
    large = {"argv": ["bash", "-c", "echo ${#1}", "-", "x" * 100_000], "wait": True}  # a request to it has no room
    assert session.service.post(f"{session.path}/processes", json=large).body["stdout"] == "100000\n"


def test_an_ended_starter_is_replaced(session):
    for _ in range(3):
        session.printed(f"kill -9 {session.starter}")
        assert session.stat().status == 200
        assert session.printed("echo usable") == "usable\n"
        session.starter = session.await_starter()
    session.printed("kill -9 -1")
    assert session.stat().status == 200


def test_a_stopped_starter_goes_on(session):
    session.printed(f"kill -STOP {session.starter}")
    began = time.monotonic()
    assert session.stat().status == 200
    assert session.printed("echo usable") == "usable\n"
    assert time.monotonic() - began < 2, "it was continued, and not waited for"


def test_a_starter_that_is_stopped_all_the_time_costs_its_own_session_alone(session):
    attacker = session.start(f"while kill -STOP {session.starter}; do :; done 2>/dev/null").body["id"]
    for _ in range(3):
        assert session.stat().status in (200, 409, 500, 503)
        assert session.service.run(**HELLO)["stdout"] == "hi\n"
    session.service.request("DELETE", f"{session.path}/processes/{attacker}")
    assert session.stat().status == 200
    assert session.printed("echo usable") == "usable\n"


def test_no_more_processes_is_an_answer(session):
    for _ in range(40):
        assert session.start("exec sleep 300").status in (201, 409)
    full = session.stat()
    assert full.status == 200 or "no more processes" in full.body["error"]["message"], full.body
    processes = session.service.get(f"{session.path}/processes").body["data"]
    assert 5 < [process["status"] for process in processes].count("running") < 32, "of 32 in all"
    for process in processes:
        session.service.request("DELETE", f"{session.path}/processes/{process['id']}")
    assert session.stat().status == 200
    assert session.printed("echo usable") == "usable\n"

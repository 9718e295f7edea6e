"""The boundary once more, inside sessions that have run hostile code before: a longer life opens nothing."""

from __future__ import annotations

import pytest

from protocol.session import RUN_LIMITS
from tests.adversarial import boundary
from tests.adversarial.rows import Case, filled, judge

COLUMN = "oci/crun/template"
#: What a session's language needs, and what hostile code leaves in it.
PLANTED = """
import os, signal, subprocess, sys
for name in ("sitecustomize.py", "usercustomize.py", "ctypes.py", "socket.py", "bash", "python3", "ls"):
    open("/tmp/" + name, "w").write("raise SystemExit('planted')")
for name in (".bashrc", ".profile", ".bash_profile", ".pythonrc", ".netrc"):
    open("/work/" + name, "w").write("echo planted; exit 1")
for link, target in (("p", "/proc/1"), ("r", "/"), ("k", "/dev/kmsg")):
    os.symlink(target, "/work/" + link)
os.mkfifo("/work/fifo")
subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) not in (1, os.getpid(), os.getppid()):
        try:
            os.kill(int(pid), signal.SIGSTOP)
        except OSError:
            pass
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1):
    os.kill(1, number)
"""
HOSTILE = {
    "python": (
        PLANTED,
        "import os\nwhile True:\n    if os.fork(): pass",
        "x = bytearray(1 << 31)",
        "import os\nfds = []\nwhile True: fds.append(os.open('/dev/null', 0))",
    ),
    "bash": (
        "python3 - <<'E'\n" + PLANTED + "\nE",
        "f() { f | f & }; f; sleep 20",
        "head -c 4G /dev/zero > /work/full; tail -c 4G /dev/zero",
        "kill -9 -1",
    ),
}
#: The rows of which a session differs, by its design.
NOT_ASKED = {
    "killing all there is": "the keeper of the run has its uid and is killed too, and the run with it",
    "other processes": "what earlier runs of the session have left behind lives on in it",
}


def rows():
    for name, case in boundary.CASES.items():
        limits = set(case.job.get("limits", {}))
        if case.language in HOSTILE and limits <= set(RUN_LIMITS) and name not in NOT_ASKED:
            yield pytest.param(case, id=name)


@pytest.fixture(scope="module")
def used(service, _invariants):
    """A session of each language that has run hostile code. After them all nothing of them is left."""
    paths = {}
    for language, programs in HOSTILE.items():
        made = service.post("/v1/sessions", json={"language": language, "limits": {"memory_mb": 512, "pids": 96}})
        assert made.status == 201, made.body
        paths[language] = path = f"/v1/sessions/{made.body['id']}"
        for code in programs:
            reply = service.post(f"{path}/runs", json={"code": code, "limits": {"timeout_ms": 2000}})
            assert reply.status == 200, reply.body
            service.request("DELETE", f"{path}/files?path=full")
    yield paths
    for path in paths.values():
        service.request("DELETE", path)
    _invariants.check()


@pytest.fixture
def hello(_invariants):
    """Run a program in a sandbox of its own, which is answered soon."""
    return _invariants.hello


@pytest.mark.parametrize("case", list(rows()))
def test_row_in_a_used_session(service, used, hello, case: Case):
    code = filled(case.code, state=service.state, port=service.port)
    limits = {"timeout_ms": 30_000} | case.job.get("limits", {})
    reply = service.post(f"{used[case.language]}/runs", json={"code": code, **case.job, "limits": limits})
    assert reply.status == 200, reply.body
    judge(case, reply.body, COLUMN)
    hello()

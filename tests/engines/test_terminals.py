"""Terminals of processes of sessions on every engine and runtime: they work, and leave every wall where it was."""

from __future__ import annotations

import base64
import time

import pytest

from tests.support.worker_sessions import KEY, WorkerSession

#: Of /proc/self/status: what tells of the layers.
FACTS = "^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):"


class Session(WorkerSession):
    """A session whose processes have terminals."""

    def __init__(self, dispatcher, language, patience_s):
        super().__init__(dispatcher, language)
        self.patience_s = patience_s

    def says(self, *argv, pty=True, typed=b"", behind=""):
        """What a process says to its end. `typed` is typed once it has said `behind`."""
        process = self.start(*argv, pty={"cols": 80, "rows": 24} if pty else None)
        deadline = time.monotonic() + self.patience_s
        while behind not in self._output(process):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.worker.write_input(self.id, KEY, process["id"], [typed], close=not pty)
        return self._output(process, wait_s=self.patience_s)

    def _output(self, process, wait_s=0):
        found = self.ask("process", "process", p=process["id"], wait_s=wait_s, output=True)
        assert not wait_s or found["status"] == "ended", found
        return base64.b64decode(found["stdout"]).decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def session(dispatcher, column):
    # With gVisor some of what is waited for never comes.
    patience_s = 5 if column.own_kernel else 30
    made = {}

    def of(language):
        if language not in made:
            made[language] = Session(dispatcher, language, patience_s)
        return made[language]

    yield of
    for one in made.values():
        one.end()


def test_a_process_owns_its_terminal(session):
    code = "tty; stty size; echo to it >/dev/tty; read x; echo $x"
    said = session("bash").says("bash", "-c", code, typed=b"typed\n", behind="to it")
    assert said.startswith("/dev/pts/")
    assert said.split("\n")[1:] == ["24 80", "to it", "typed", "typed", ""]


def test_ctrl_c_reaches_the_foreground_group(session):
    code = "trap 'echo got; exit 3' INT; echo begun; while :; do sleep 0.1; done"
    assert "got\n" in session("bash").says("bash", "-c", code, typed=b"\x03", behind="begun")


def test_the_walls_are_those_of_a_process_without_one(session):
    with_one, without = (
        session("bash").says("grep", "-E", FACTS, "/proc/self/status", pty=pty) for pty in (True, False)
    )
    assert with_one == without
    assert "Uid" in with_one


def test_the_terminals_of_a_sandbox_are_its_own(session):
    said = session("bash").says("sh", "-c", "ls /dev/pts; readlink /proc/self/fd/0").split()
    assert said[-1].startswith("/dev/pts/")
    assert {name for name in said[:-1] if name != "ptmx"} == {said[-1].rpartition("/")[2]}


def test_a_program_opens_terminals_of_its_own(session):
    code = (
        "import os, pty\n"
        "pid, fd = pty.fork()\n"
        "if pid == 0: os.execvp('sh', ['sh', '-c', 'tty >/dev/null && echo inner'])\n"
        "print(os.read(fd, 100).decode().strip())\n"
    )
    assert session("python").says("python3", "-c", code) == "inner\n"

"""The limits of the machine from inside a session, which lives longer and runs one program after another.

The rows are those of a single-use run (machine.py), in one session; for what ends a session there is another.
"""

from __future__ import annotations

import time

import pytest

from sandbox.sessions.table import OPERATION_PIDS
from tests.adversarial import machine
from tests.adversarial.attacks import ATTACKS, SECONDS
from tests.adversarial.rows import Case, filled, judge
from tests.adversarial.test_tenants import READ_MB_S, READS_ARE_HELD, REREAD, unreclaimable_mb

COLUMN = "oci/crun/template"
HELLO_S = 2.0
#: Memory and processes are the session's.
OF_A_SESSION = ("memory_mb", "pids")
ROOMY = {name: machine.ROOMY["limits"][name] for name in OF_A_SESSION}
#: What stays of an attack on file locks until the session is ended.
UNCHARGED_MB = 200


class Session:
    """One session of Python, which is begun again with other limits, or after it has ended."""

    def __init__(self, service) -> None:
        self.service = service
        self.limits: dict[str, int] = {}
        self.path = ""

    def begin(self, limits: dict[str, int]) -> None:
        """Have a live session with these limits: the one there is, if it has them."""
        if self.path and self.limits == limits and self.service.get(self.path).body["status"] == "ready":
            return
        self.end()
        # A session's sandbox has some more processes than its limit, for file operations.
        given = limits | {"pids": limits["pids"] - OPERATION_PIDS}
        reply = self.service.post("/v1/sessions", json={"language": "python", "limits": given})
        assert reply.status == 201, reply.body
        self.path, self.limits = f"/v1/sessions/{reply.body['id']}", limits

    def run(self, code: str, **limits: int):
        reply = self.service.post(f"{self.path}/runs", json={"code": code, "limits": limits})
        assert reply.status == 200, reply.body
        return reply.body

    def end(self) -> None:
        if self.path:
            self.service.request("DELETE", self.path)
        self.path = ""


@pytest.fixture(scope="module")
def session(service, _invariants):
    """One session for all rows with the same limits; nothing of it is left when they are over."""
    made = Session(service)
    yield made
    made.end()
    _invariants.check()


@pytest.mark.parametrize("name", machine.CASES)
def test_row(service, session, name):
    case: Case = machine.CASES[name]
    limits = dict(case.job.get("limits", {}))
    session.begin({of_it: limits.pop(of_it, ROOMY[of_it]) for of_it in OF_A_SESSION})
    judge(case, session.run(filled(case.code, state=service.state, port=service.port), **limits), COLUMN)
    began = time.monotonic()
    assert service.run("python", "print('hi')", token=service.other_token)["stdout"] == "hi\n"
    assert time.monotonic() - began < HELLO_S


def test_file_locks_that_outlive_their_run_end_the_session(service, session):
    """A process that stays after its run holds its locks on: the watch covers the session's whole life."""
    session.begin(ROOMY)
    before, most = unreclaimable_mb(), 0
    code = ATTACKS["file locks"][1].removesuffix("time.sleep(9)\n")
    session.run(
        code.replace("if os.fork() == 0:", "if os.fork() == 0:\n        os.setsid()"), timeout_ms=SECONDS * 1000
    )
    deadline = time.monotonic() + 10
    while (told := service.get(session.path)).body["status"] == "ready" and time.monotonic() < deadline:
        most = max(most, unreclaimable_mb() - before)
        assert service.run("python", "print('hi')", token=service.other_token)["stdout"] == "hi\n"
    assert (told.body["status"], told.body["end_reason"]) == ("ended", "failed")
    assert most < UNCHARGED_MB


@READS_ARE_HELD
def test_reads_from_the_disk_are_held_to_the_limit(session):
    session.begin(ROOMY)
    run = session.run(REREAD)
    assert run["status"] == "succeeded", run["stderr"]
    assert 10 < int(run["stdout"]) < 1.25 * READ_MB_S

"""The facts of a session on every engine and runtime: its disk, as the host sees it without the agent."""

from __future__ import annotations

from tests.support.worker_sessions import opened


def test_the_host_tells_what_work_holds(dispatcher, column):
    with opened(dispatcher) as session:
        found = [session.facts()["usage"]["disk_mb"]]
        for line in ("head -c 5M /dev/zero > a", "head -c 9M /dev/zero > /tmp/b", "rm a; echo > c"):
            session.bash(line)
            found.append(session.facts()["usage"]["disk_mb"])
    assert found == ([0, 0, 0, 0] if column.own_kernel else [0, 5, 5, 1])
    assert session.facts()["usage"]["disk_mb"] == found[-1]

"""One tenant's attack on what the machine shares, and another tenant's hello meanwhile."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attacks import ATTACKS, LIMITS, SECONDS

pytestmark = pytest.mark.usefixtures("invariants")
HELLO_S = 2.0
#: What an attack may have the kernel hold that is charged to no run, until the runs are ended.
UNCHARGED_MB = 200


def unreclaimable_mb():
    return int(re.search(r"SUnreclaim:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) // 1024


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hello_beside_an_attack(service, name):
    runs, code = ATTACKS[name]
    before, most = unreclaimable_mb(), 0
    took = []
    with ThreadPoolExecutor(runs) as pool:
        attackers = [
            pool.submit(service.run, "python", code, limits=LIMITS, token=service.other_token) for _ in range(runs)
        ]
        deadline = time.monotonic() + SECONDS - 0.5
        while time.monotonic() < deadline:
            began = time.monotonic()
            assert service.run("python", "print('hi')")["stdout"] == "hi\n"
            took.append(time.monotonic() - began)
            health = service.get("/v1/health", token=None)
            assert (health.status, health.body["status"]) == (200, "ok"), health.body
            most = max(most, unreclaimable_mb() - before)
        statuses = {attacker.result()["status"] for attacker in attackers}
    assert statuses <= {"timeout", "oom", "killed", "failed", "succeeded"}
    # The machine that runs the tests is not theirs alone: one in twenty may be late.
    assert sorted(took)[len(took) * 95 // 100] <= HELLO_S, took
    if name == "file locks":
        assert statuses == {"killed"}
        assert most < UNCHARGED_MB

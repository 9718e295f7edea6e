"""One key takes all that it can get; another key's hello is answered all the same, and soon."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

HELLO_S = 2.0
#: More than there are places and queue for.
MOST = 200
GO = 'package main\nimport "time"\nfunc main() { time.Sleep(20 * time.Second) }'
ATTACKS = {
    "sleepers of 2 GB": {"language": "bash", "code": "sleep 50", "limits": {"timeout_ms": 60_000, "memory_mb": 2048}},
    "sleepers": {"language": "bash", "code": "sleep 50", "limits": {"timeout_ms": 60_000}},
    "compilers": {"language": "go", "code": GO, "limits": {"timeout_ms": 60_000}},
}  # fmt: skip

pytestmark = [pytest.mark.usefixtures("invariants"), pytest.mark.timeout(300)]


@pytest.fixture
def flood(service):
    """Submit runs with the second key until it is told that it has its share; all are cancelled in the end."""
    accepted = []

    def start(body):
        while len(accepted) < MOST:
            reply = service.post("/v1/runs", json={**body, "background": True}, token=service.other_token)
            if reply.status != 202:
                assert (reply.status, reply.body["error"]["code"]) == (429, "too_many_runs"), reply.body
                assert reply.body["error"]["type"] == "rate_limit_error"
                assert int(reply.headers["retry-after"]) >= 1
                return accepted
            accepted.append(reply.body["id"])
        raise AssertionError(f"{MOST} runs of one key were accepted")

    yield start

    def cancel(run_id):
        service.post(f"/v1/runs/{run_id}/cancel", data=b"", token=service.other_token)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cancel, reversed(accepted)))


@pytest.mark.parametrize("attack", ATTACKS)
def test_hello_of_another_key(service, flood, attack):
    flood(ATTACKS[attack])
    took = []
    for number in range(10):
        began = time.monotonic()
        run = service.run("bash", f"echo {number}")
        took.append(time.monotonic() - began)
        assert (run["stdout"], run["usage"]["queue_ms"]) == (f"{number}\n", 0)
    assert min(took) < HELLO_S, took


def test_hello_of_the_same_key_passes_runs_that_do_not_fit(service):
    """As many runs of 2 GB as fit and a few that do not: what is small goes on."""
    body = ATTACKS["sleepers of 2 GB"]
    accepted = [service.submit(body["language"], body["code"], limits=body["limits"]) for _ in range(12)]
    try:
        began = time.monotonic()
        assert service.run("bash", "echo hi")["stdout"] == "hi\n"
        assert time.monotonic() - began < HELLO_S + 2
    finally:
        for run_id in reversed(accepted):
            service.post(f"/v1/runs/{run_id}/cancel", data=b"")


def test_a_crowd_of_clients_with_one_key_has_no_other_refused(service):
    """Places and queue kept full by clients that wait, and ask again as soon as they are answered."""
    stop = threading.Event()
    counts = {}

    def greedy():
        body = {"language": "bash", "code": "sleep 1"}
        while not stop.is_set():
            reply = service.post("/v1/runs", json=body, token=service.other_token)
            counts[reply.status] = counts.get(reply.status, 0) + 1
            assert reply.status in (200, 429), reply.body

    with ThreadPoolExecutor(160) as pool:
        crowd = [pool.submit(greedy) for _ in range(150)]
        try:
            deadline = time.monotonic() + 30
            while 429 not in counts:
                assert time.monotonic() < deadline, counts
                time.sleep(0.05)
            hellos = [service.post("/v1/runs", json={"language": "bash", "code": "echo hi"}) for _ in range(20)]
        finally:
            stop.set()
        for client in crowd:
            client.result()
    assert [hello.status for hello in hellos] == [200] * 20

"""Input and signals for runs while they live, on the real service."""

from __future__ import annotations

import os
import time

import pytest

LIMITS = {"timeout_ms": 30_000}


def submit(service, language, code, **fields):
    run_id = service.submit(language, code, stdin_open=True, limits=LIMITS, **fields)
    deadline = time.monotonic() + 20
    while service.get(f"/v1/runs/{run_id}").body["status"] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return run_id


def write(service, run_id, data, query="", **options):
    return service.post(f"/v1/runs/{run_id}/stdin{query}", data=data, **options)


@pytest.mark.parametrize("language", ["bash", "python"])
def test_a_run_reads_what_comes_while_it_runs(service, language):
    code = {
        "bash": "read a; echo got $a; cat",
        "python": "import sys\nprint('got', input())\nprint(sys.stdin.read(), end='')",
    }
    run_id = submit(service, language, code[language])
    assert write(service, run_id, b"one\n").status == 200
    assert write(service, run_id, b"two\nthree\n", "?close=1").status == 200
    ended = service.ended(run_id)
    assert (ended["status"], ended["stdout"]) == ("succeeded", "got one\ntwo\nthree\n")
    late = write(service, run_id, b"x")
    assert (late.status, late.body["error"]["code"]) == (409, "stdin_closed")


def test_what_was_given_comes_first_and_much_passes_whole(service):
    run_id = submit(service, "bash", "sha256sum", stdin="first\n")
    data = os.urandom(1_000_000)
    assert write(service, run_id, data, "?close=1").status == 200
    import hashlib

    assert service.ended(run_id)["stdout"].split()[0] == hashlib.sha256(b"first\n" + data).hexdigest()


def test_a_run_is_signalled(service):
    run_id = submit(service, "bash", "trap 'echo told; exit 5' USR1; echo begun; while :; do sleep 0.05; done")
    with service.events(f"/v1/runs/{run_id}/events") as events:
        while next(events)[1]["event"] != "stdout":
            pass
    reply = service.post(f"/v1/runs/{run_id}/signal", json={"signal": "SIGUSR1"})
    assert reply.status == 200, reply.body
    ended = service.ended(run_id)
    assert (ended["exit_code"], ended["stdout"]) == (5, "begun\ntold\n")


def test_a_run_whose_input_never_ends_has_its_time(service):
    run_id = service.submit("bash", "cat", stdin_open=True, limits={"timeout_ms": 500})
    assert service.ended(run_id)["status"] == "timeout"


def test_what_takes_no_input_says_so(service):
    plain = service.submit("bash", "sleep 2")
    for reply in (
        write(service, plain, b"x"),
        service.post(f"/v1/runs/{plain}/signal", json={"signal": "SIGTERM"}),
    ):
        assert (reply.status, reply.body["error"]["code"]) == (409, "stdin_closed")
    assert service.ended(plain)["status"] == "succeeded"
    other = write(service, plain, b"x", token=service.other_token)
    assert (other.status, other.body["error"]["code"]) == (404, "run_not_found")
    assert service.post("/v1/runs/run_x/signal", json={"signal": "SIGTERM"}).status == 404
    assert service.post(f"/v1/runs/{plain}/signal", json={"signal": "SIGFOO"}).status == 400
    assert write(service, plain, b"x", "?close=2").status == 400

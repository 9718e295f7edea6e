"""Two instances of the service on one database: the second is refused, and nothing of the first is touched."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import pytest

from records import open_records
from records.runs import NewRun
from tests.support.apiprocess import Api
from tests.support.workers import until

#: Of every instance here; ten by default.
LEASE_S = 4
REFUSED_S, TAKEN_OVER_S = 12.0, 40.0
EX_CONFIG = 78
SENTENCE = "another instance of the service"
WAITS = "waiting for its next heartbeat, or for its lease to end"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.sqlite"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def start(request):
    def one(url):
        api = Api({"DATABASE_URL": url, "LEASE_S": str(LEASE_S)})
        request.addfinalizer(api.end)
        return api

    return one


def refused(api):
    """Wait for the end of one that is refused, and hold what it says."""
    assert api.process.wait(REFUSED_S) == EX_CONFIG, api.said()
    assert SENTENCE in api.said()
    assert "Traceback" not in api.said()


def kill(api):
    """End every process of it as the kernel does when memory is short."""
    for pid in (api.process.pid, *api.workers()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    api.process.wait(10)


def instance_of(api):
    return (api.state / "api/instance").read_text().strip()


def live_run(url, instance):
    """A run that an instance has accepted and not ended."""
    records = open_records(url, instance=instance)
    run_id = f"run_{os.urandom(12).hex()}"
    document = (
        b'{"status":"running","limits":{"memory_mb":256},"metadata":{},"code_sha256":"0","created_at":"2026-01-01"}'
    )
    records.runs.accept(NewRun(run_id, "key_x", "bash", 0, document, b"{}", "running"))
    records.close()
    return run_id


def status_of(url, run_id):
    records = open_records(url)
    try:
        run = records.runs.get("key_x", run_id)
        return run.status, run.document
    finally:
        records.close()


def test_a_second_instance_is_refused_until_the_first_is_gone(start, url):
    first = start(url).wait()
    run_id = live_run(url, instance_of(first))
    refused(start(url))
    assert status_of(url, run_id)[0] == "running"
    assert first.service.get("/healthz", token=None).status == 200
    first.process.send_signal(signal.SIGTERM)
    first.process.wait(30)
    began = time.monotonic()
    third = start(url).wait()
    assert time.monotonic() - began < 10, "what ends in order leaves no lease behind"
    until(lambda: status_of(url, run_id)[0] == "error", 40)
    assert b'"interrupted"' in status_of(url, run_id)[1]
    assert third.service.get("/healthz", token=None).status == 200


def test_a_killed_owners_lease_ends_by_itself_and_its_own_restart_does_not_wait(start, url):
    first = start(url).wait()
    kill(first)
    began = time.monotonic()
    again = first.again().wait()
    assert time.monotonic() - began < 10, "its own lease is taken over at once"
    refused(start(url))
    kill(again)
    began = time.monotonic()
    second = start(url).wait()
    # The last heartbeat was three tenths of the lease before the kill, or less.
    assert 0.6 * LEASE_S < time.monotonic() - began < TAKEN_OVER_S
    assert WAITS not in again.said(), "its own lease needs no waiting"
    assert instance_of(second) != instance_of(first)


def test_make_up_of_a_second_instance_says_why_and_leaves_nothing_running(start, start_service, state, postgres):
    url = postgres.new_database()
    first = start(url).wait()
    with pytest.raises(AssertionError, match=SENTENCE):
        start_service(DATABASE_URL=url, LEASE_S=str(LEASE_S))
    assert not (state / "run/supervisor.pid").exists()
    assert first.service.get("/healthz", token=None).status == 200
    kill(first)


def test_a_live_run_is_not_ended_by_a_second_instance(start_service, start):
    service = start_service(LEASE_S=str(LEASE_S))
    # It goes on until it is told to, however long the refusal takes.
    code = "echo begun; read line; echo done"
    run_id = service.submit("bash", code, stdin_open=True, limits={"timeout_ms": 60_000})
    until(lambda: service.get(f"/v1/runs/{run_id}").body["status"] == "running")
    refused(start(f"sqlite:///{service.state}/db/runyard.sqlite"))
    assert service.get(f"/v1/runs/{run_id}").body["status"] == "running"
    assert service.post(f"/v1/runs/{run_id}/stdin", data=b"\n").status == 200
    run = service.ended(run_id)
    assert (run["status"], run["stdout"]) == ("succeeded", "begun\ndone\n")

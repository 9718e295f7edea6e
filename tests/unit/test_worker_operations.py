"""Who may ask the worker what: an engine's words tell of the host, and are root's alone."""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace

import pytest

from protocol.codec import encode_job
from protocol.job import Job
from worker.handlers import Connection, RequestHandlers
from worker.runs import RunTable
from worker.unix_channel import UnixChannel

API_UID = 0x7000_0000


@pytest.fixture
def ask():
    """Ask as the process of some uid; the answer's only line."""
    service = SimpleNamespace(
        sessions=SimpleNamespace(all=list, ends=list),
        session_executor=None,
        catalogue=(),
        sandboxes=lambda: {"python": {"words": "secret words"}},
        observer=SimpleNamespace(refused=lambda _refusal: None),
        canary=lambda language: {"ok": False, "words": f"secret words about {language}", "remedy": "do this"},
    )
    operations = RequestHandlers(service, RunTable(4))

    def asked(request, uid):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            operations.answer(json.dumps(request).encode(), Connection(UnixChannel(ours), uid))
            return json.loads(theirs.makefile().readline())

    return asked


@pytest.mark.parametrize("request_", [{"op": "sandboxes"}, {"op": "canary", "language": "python"}])
def test_an_engines_words_are_for_root(ask, request_):
    assert "secret words" in json.dumps(ask(request_, 0))
    refused = ask(request_, API_UID)
    assert (refused["refused"]["status"], refused["refused"]["code"]) == (403, "forbidden")
    assert "secret" not in json.dumps(refused)


def test_a_job_of_a_newer_version_is_for_another_worker(ask, caplog):
    job = encode_job(Job(run_id="run_1", language="bash", code="true"))
    refused = ask({"op": "run", "job": job | {"twice_as_fast": True}}, API_UID)["refused"]
    assert (refused["status"], refused["code"], refused["retry_after_s"]) == (503, "worker_unavailable", 5)
    assert "newer version" in caplog.text
    assert ask({"op": "run", "job": job | {"stdin": 7}}, API_UID)["refused"]["status"] == 400

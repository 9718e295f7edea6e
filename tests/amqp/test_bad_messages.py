"""What a real worker and a real api do with messages that are none of theirs, and with settings that cannot work."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pika
import pytest

from dispatch import worker_client
from protocol.codec import encode_job
from protocol.job import Job
from tests.support.apiprocess import Api
from tests.support.workers import until
from transport.frames import WireFrame, encode

WRONG = "n33dle"


def job(code, **fields):
    return Job(run_id="run_of_a_stranger", language="bash", code=code, key="test", **fields)


def ready(dispatcher):
    until(lambda: any(worker.languages for worker in dispatcher.directory.known()), 20)


def asked(dispatcher, line):
    """Send the worker a line of an api's, and return its answer."""
    (worker,) = dispatcher.directory.known()
    with worker.connect() as sock:
        sock.settimeout(10)
        sock.sendall(line)
        return sock.makefile("rb").readline()


NO_JOBS = {
    b"\n": 400,
    b"no json\n": 400,
    b"[]\n": 400,
    b"7\n": 400,
    b"\x00\xff\xfe\n": 400,
    b'{"op":7}\n': 400,
    b'{"op":"none"}\n': 400,
    b'{"op":"run"}\n': 400,
    b'{"op":"run","job":[]}\n': 400,
    b'{"op":"run","job":{"run_id":7}}\n': 400,
    b'{"op":"run","mode":"twice","job":{}}\n': 400,
    json.dumps({"op": "run", "job": encode_job(job("true")) | {"language": "\0"}}).encode() + b"\n": 400,
    json.dumps({"op": "run", "job": encode_job(job("true")) | {"key": None}}).encode() + b"\n": 400,
    # A broker's account is not root of the worker's machine.
    b'{"op":"canary","language":"bash"}\n': 403,
    b'{"op":"sandboxes"}\n': 403,
}


def test_what_is_no_job_is_refused_and_runs_nothing(shared_broker, start_worker, start_dispatcher):
    worker = start_worker(shared_broker)
    dispatcher = start_dispatcher(shared_broker)
    ready(dispatcher)
    for line, status in NO_JOBS.items():
        assert json.loads(asked(dispatcher, line))["refused"]["status"] == status, line
    (peer,) = dispatcher._endpoint.peers.values()
    connection = pika.BlockingConnection(pika.URLParameters(shared_broker.url))
    channel = connection.channel()
    opening = encode(
        WireFrame("open", "a" * 32, reply_to="jobs.none", sender="api_none", payload=b"half a request")
    )
    for body in (b"", b"no line", b"{}\n", b"x" * 2_000_000, opening):
        channel.basic_publish("", peer.queue, body)
    connection.close()
    assert dispatcher.run(job("echo ok"))["stdout"] == "ok\n"
    # The worker writes this line after it has sent the result.
    until(lambda: '"message":"run ended"' in worker.log.read_text())
    said = worker.log.read_text()
    assert "none of ours" in said
    assert "Traceback" not in said
    assert said.count('"message":"run ended"') == 1


@pytest.mark.slow
def test_a_job_with_fields_of_a_newer_version_is_sent_back_and_reported(
    shared_broker, start_worker, start_dispatcher, monkeypatch
):
    worker = start_worker(shared_broker)
    dispatcher = start_dispatcher(shared_broker)
    ready(dispatcher)
    with monkeypatch.context() as changed:
        changed.setattr(worker_client, "encode_job", lambda one: encode_job(one) | {"twice_as_fast": True})
        refused = dispatcher.run(job("echo ok"))
    assert (refused.status, refused.code) == (503, "worker_unavailable")
    assert "newer version" in worker.log.read_text()
    assert dispatcher.run(job("echo ok"))["stdout"] == "ok\n"


@pytest.mark.slow
def test_a_wrong_password_is_reported_by_api_and_worker_and_shown_by_neither(
    shared_broker, start_worker, queue, request
):
    url = shared_broker.url.replace("of-the-tests", WRONG)
    api = Api({"AMQP_URL": url, "AMQP_QUEUE": queue})
    request.addfinalizer(api.end)
    worker = start_worker(SimpleNamespace(url=url))
    api.wait()
    reply = api.service.post("/v1/runs", json={"language": "bash", "code": "true"})
    assert (reply.status, reply.body["error"]["code"]) == (503, "worker_unavailable")
    assert api.service.get("/v1/health", token=None).body["status"] == "degraded"
    for said in (api.said, worker.log.read_text):
        until(lambda said=said: "refuses the account of AMQP_URL" in said(), 20)
        assert WRONG not in said()
        assert "Traceback" not in said()

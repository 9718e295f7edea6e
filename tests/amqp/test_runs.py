"""Runs through a real broker, on real workers, asked by the dispatcher of an api process."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import closing, suppress

import pytest

from config.ids import new_id
from dispatch import ClientGone, EventsUnknown, WorkerLost, WorkerUnavailable
from protocol.job import Job
from protocol.result import Refusal
from tests.support.workers import until
from transport.endpoint import GONE_S

#: Else a run of these tests may end by itself first, on a slow machine.
LONG = {"timeout_ms": 60_000}


def job(code, language="bash", **fields):
    return Job(run_id=new_id("run"), language=language, code=code, key="test", **fields)


def workers_of(dispatcher, count):
    """Wait until so many workers have announced themselves with languages; the directory."""
    directory = dispatcher.directory
    until(lambda: len(directory.known()) == count and all(worker.languages for worker in directory.known()), 20)
    return directory


def test_a_life_of_runs(shared_broker, start_worker, start_dispatcher):
    worker, dispatcher = start_worker(shared_broker), start_dispatcher(shared_broker)
    workers_of(dispatcher, 1)
    result = dispatcher.run(job("echo hello"))
    assert (result["status"], result["stdout"]) == ("succeeded", "hello\n")

    streamed = list(dispatcher.stream(job("for n in 1 2 3; do echo $n; sleep 0.05; done", live=True)))
    assert [event["seq"] for event in streamed[:-1]] == list(range(1, len(streamed)))
    assert "".join(event["data"] for event in streamed[:-1] if event["event"] == "stdout") == "1\n2\n3\n"
    assert streamed[-1]["result"]["status"] == "succeeded"

    big = "y" * 3_000_000
    assert dispatcher.run(job("wc -c", stdin=big))["stdout"].strip() == "3000000"
    assert len(dispatcher.run(job("head -c 900000 /dev/zero | tr '\\0' x"))["stdout"]) == 900_000

    refused = dispatcher.run(job("true", limits={"timeout_ms": -1}))
    assert isinstance(refused, Refusal)
    assert refused.status == 400
    assert isinstance(dispatcher.submit(job("true", limits={"timeout_ms": -1})), Refusal)
    (only,) = dispatcher.stream(job("true", limits={"timeout_ms": -1}))
    assert only["refused"]["status"] == 400

    # The operators' commands still find it at its socket.
    assert worker.dispatcher.status()["languages"] == dispatcher.status()["languages"]
    assert 'worker="worker_' in dispatcher.metrics()


def test_a_cancelled_run_and_one_whose_client_leaves(shared_broker, start_worker, start_dispatcher):
    start_worker(shared_broker)
    dispatcher = start_dispatcher(shared_broker)
    workers_of(dispatcher, 1)
    long = job("echo begun; sleep 60", live=True)
    events = dispatcher.stream(long)
    while next(events).get("event") != "stdout":
        pass
    assert dispatcher.cancel(long.run_id)
    assert list(events)[-1]["result"]["status"] == "cancelled"
    assert not dispatcher.cancel(long.run_id)
    with pytest.raises(EventsUnknown):
        list(dispatcher.events(long.run_id, 0))

    ours, theirs = socket.socketpair()
    left = job("sleep 60")
    threading.Timer(0.5, theirs.close).start()
    with pytest.raises(ClientGone):
        dispatcher.run(left, client_fd=ours.fileno())
    ours.close()
    with closing(dispatcher.collect()) as feed:
        (ended,) = (item for item in [next(item for item in feed if item.kind == "ended")])
    assert (ended.data["run_id"], ended.data["result"]["status"]) == (left.run_id, "cancelled")
    dispatcher.acknowledge(left.run_id)


@pytest.mark.slow
def test_a_background_run_is_followed_collected_and_kept_until_it_is_acknowledged(
    shared_broker, start_worker, start_dispatcher
):
    start_worker(shared_broker)
    first, second = start_dispatcher(shared_broker), start_dispatcher(shared_broker)
    workers_of(first, 1)
    workers_of(second, 1)
    submitted = job("for n in 1 2 3; do echo $n; sleep 0.3; done", live=True)
    assert first.submit(submitted) is None
    # Another api process finds it, wherever it is.
    followed = list(second.events(submitted.run_id, 0))
    assert "".join(event["data"] for event in followed if event["event"] == "stdout") == "1\n2\n3\n"
    for dispatcher in (first, second):
        with closing(dispatcher.collect()) as feed:
            ended = next(item for item in feed if item.kind == "ended")
        assert ended.data["run_id"] == submitted.run_id
    second.acknowledge(submitted.run_id)
    with closing(first.collect()) as feed:
        listed = next(item for item in feed if item.kind in ("runs", "ended"))
    assert (listed.kind, listed.data["live"]) == ("runs", {})


@pytest.mark.slow
def test_a_job_goes_where_it_can_run_and_where_there_is_room(shared_broker, start_worker, start_dispatcher):
    only_bash = start_worker(shared_broker, MAX_RUNS="2", QUEUE_MAX="1")
    settings = {"LANGUAGES": "bash,python", "WARM_POOL": "bash=1,python=1", "MAX_RUNS": "2", "QUEUE_MAX": "1"}
    both = start_worker(shared_broker, **settings)
    dispatcher = start_dispatcher(shared_broker)
    workers_of(dispatcher, 2)
    assert dispatcher.run(job("print(1)", "python"))["status"] == "succeeded"
    unknown = dispatcher.run(job("true", "cobol"))
    assert (unknown.status, unknown.code) == (503, "language_not_ready")
    running = [job("sleep 20") for _ in range(4)]
    for one in running:
        assert dispatcher.submit(one) is None
    until(lambda: [worker.dispatcher.status()["queue"]["running"] for worker in (only_bash, both)] == [2, 2])
    waiting = [job("true") for _ in range(2)]
    for one in waiting:
        assert dispatcher.submit(one) is None
    full = dispatcher.submit(job("true"))
    assert (full.status, full.code) == (503, "overloaded")
    for one in (*waiting, *running):
        dispatcher.cancel(one.run_id)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_its_runs_once_and_alone(shared_broker, start_worker, start_dispatcher):
    doomed = start_worker(shared_broker)
    dispatcher = start_dispatcher(shared_broker)
    workers_of(dispatcher, 1)
    background = job("sleep 60", limits=LONG)
    assert dispatcher.submit(background) is None
    failures = []

    def wait():
        try:
            dispatcher.run(job("sleep 60", limits=LONG))
        except WorkerLost as e:
            failures.append(e)

    waiter = threading.Thread(target=wait)
    waiter.start()
    until(lambda: doomed.dispatcher.status()["queue"]["running"] == 2)
    start_worker(shared_broker)
    workers_of(dispatcher, 2)
    kept = job("sleep 60", limits=LONG)
    with closing(dispatcher.collect()) as feed:
        assert background.run_id in next(item for item in feed if item.kind == "runs").data["live"]
        doomed.process.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        until(lambda: dispatcher.directory.losses == 1, GONE_S + 5)
        assert time.monotonic() - killed_at > GONE_S - 3
        assert dispatcher.submit(kept) is None
        listed = [next(item for item in feed if item.kind == "runs")]
        assert background.run_id not in listed[0].data["live"]
        assert listed[0].asked_at is not None
    waiter.join(5)
    assert [str(failure) for failure in failures] == ["the worker has gone"]
    dispatcher.cancel(kept.run_id)


def test_a_stopping_worker_takes_no_more_runs_and_leaves_at_once(shared_broker, start_worker, start_dispatcher):
    worker = start_worker(shared_broker, DRAIN_S="20")
    dispatcher = start_dispatcher(shared_broker)
    workers_of(dispatcher, 1)
    results = []
    waiter = threading.Thread(target=lambda: results.append(dispatcher.run(job("sleep 2; echo done"))))
    waiter.start()
    until(lambda: worker.dispatcher.status()["queue"]["running"] == 1)
    worker.process.send_signal(signal.SIGTERM)
    until(lambda: dispatcher.directory.all()[0].is_stopping)
    assert dispatcher.run(job("true")).status == 503
    waiter.join(20)
    assert results[0]["stdout"] == "done\n"
    until(lambda: not dispatcher.directory.known(), 5)
    with pytest.raises(WorkerUnavailable):
        dispatcher.status()


@pytest.mark.slow
def test_runs_outlive_a_broker_that_is_killed_and_it_is_used_again_within_five_seconds(
    broker, start_worker, start_dispatcher
):
    worker = start_worker(broker)
    dispatcher = start_dispatcher(broker)
    workers_of(dispatcher, 1)
    results = []

    def wait(code):
        results.append(dispatcher.run(job(code)))

    waiters = [threading.Thread(target=wait, args=(f"sleep {seconds}; echo {seconds}",)) for seconds in (1, 8)]
    for waiter in waiters:
        waiter.start()
    until(lambda: worker.dispatcher.status()["queue"]["running"] == 2)
    broker.kill()
    until(lambda: not dispatcher.is_connected)
    with pytest.raises(WorkerUnavailable):
        dispatcher.run(job("true"))
    until(lambda: worker.dispatcher.status()["queue"]["running"] == 1)
    broker.start()
    back_at = time.monotonic()
    used = None
    while used is None:
        assert time.monotonic() - back_at < 5, worker.log.read_text()[-2000:]
        with suppress(WorkerUnavailable):
            used = dispatcher.run(job("echo again"))
    assert used["stdout"] == "again\n"
    for waiter in waiters:
        waiter.join(20)
    assert sorted(result["stdout"] for result in results) == ["1\n", "8\n"]

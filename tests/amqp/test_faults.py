"""A connection to the broker that is cut or silent, and a broker that hangs or lacks disk space, under runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress

import pytest

from config.ids import new_id
from dispatch import WorkerLost, WorkerUnavailable
from protocol.job import Job
from protocol.result import Refusal
from tests.support.workers import until
from transport.endpoint import GONE_S


def job(code, **fields):
    return Job(run_id=new_id("run"), language="bash", code=code, key="test", **fields)


def ready(dispatcher):
    until(lambda: any(worker.languages for worker in dispatcher.directory.known()), 20)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["api", "worker"])
def test_frames_that_are_lost_are_sent_again(shared_broker, proxy, behind, start_worker, start_dispatcher, side):
    start_worker(behind if side == "worker" else shared_broker)
    dispatcher = start_dispatcher(behind if side == "api" else shared_broker)
    ready(dispatcher)
    events = []

    def follow():
        events.extend(dispatcher.stream(job("for n in $(seq 400); do echo $n; sleep 0.01; done", live=True)))

    follower = threading.Thread(target=follow)
    follower.start()
    for _ in range(3):
        time.sleep(1)
        proxy.cut()
    follower.join(60)
    printed = "".join(event["data"] for event in events if event.get("event") == "stdout")
    assert printed.split() == [str(n) for n in range(1, 401)]
    assert events[-1]["result"]["status"] == "succeeded"


@pytest.mark.slow
@pytest.mark.parametrize("side", ["api", "worker"])
def test_a_connection_that_is_silent_for_thirty_seconds(
    shared_broker, proxy, behind, start_worker, start_dispatcher, side
):
    worker = start_worker(behind if side == "worker" else shared_broker)
    dispatcher = start_dispatcher(behind if side == "api" else shared_broker)
    ready(dispatcher)
    outcomes = []

    def wait():
        try:
            outcomes.append(dispatcher.run(job("sleep 20; echo done", limits={"timeout_ms": 60_000}))["stdout"])
        except WorkerLost:
            outcomes.append("lost")

    waiter = threading.Thread(target=wait)
    waiter.start()
    until(lambda: worker.dispatcher.status()["queue"]["running"] == 1)
    proxy.hold()
    time.sleep(30)
    proxy.release()
    back_at = time.monotonic()
    used = None
    while used is None:
        assert time.monotonic() - back_at < 10
        with suppress(WorkerUnavailable, WorkerLost):
            used = dispatcher.run(job("echo again"))
            used = None if isinstance(used, Refusal) else used
    waiter.join(30)
    # The other side could not wait: a worker that is silent for 10 s is gone, and so is an api with its clients.
    assert outcomes == ["lost"]
    until(lambda: worker.dispatcher.status()["queue"]["running"] == 0, 30)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [11, 20])  # the connection lasts, or ends for want of heartbeats
def test_a_broker_that_hangs_loses_no_run(broker, start_worker, start_dispatcher, seconds):
    start_worker(broker)
    dispatcher = start_dispatcher(broker)
    ready(dispatcher)
    outcomes = []
    waiter = threading.Thread(target=lambda: outcomes.append(dispatcher.run(job("sleep 5; echo done"))["stdout"]))
    waiter.start()
    time.sleep(1)
    broker.hang()
    time.sleep(seconds)
    broker.go_on()
    waiter.join(40)
    assert outcomes == ["done\n"]
    assert dispatcher.directory.losses == 0


@pytest.mark.slow
def test_a_broker_without_disk_space_refuses_new_runs_alone(broker, start_worker, start_dispatcher):
    start_worker(broker)
    dispatcher = start_dispatcher(broker)
    ready(dispatcher)
    outcomes = []
    waiter = threading.Thread(target=lambda: outcomes.append(dispatcher.run(job("sleep 5; echo done"))["stdout"]))
    waiter.start()
    time.sleep(1)
    broker.control("set_disk_free_limit", "1000000GB")
    until(lambda: not dispatcher.is_connected, 30)
    with pytest.raises(WorkerUnavailable):
        dispatcher.run(job("true"))
    time.sleep(GONE_S + 2)
    broker.control("set_disk_free_limit", "1MB")
    until(lambda: dispatcher.is_connected, 30)
    waiter.join(30)
    assert outcomes == ["done\n"]
    assert dispatcher.run(job("echo again"))["stdout"] == "again\n"
    assert dispatcher.directory.losses == 0


@pytest.mark.slow
def test_a_broker_that_is_killed_again_and_again_under_load(broker, start_worker, start_dispatcher, tmp_path):
    worker = start_worker(broker, MAX_RUNS="8", QUEUE_MAX="100")
    dispatcher = start_dispatcher(broker)
    ready(dispatcher)
    ended: Counter[str] = Counter()
    stop = threading.Event()

    def ask(number):
        count = 0
        while not stop.is_set():
            count += 1
            try:
                answer = dispatcher.run(job(f"echo {number}.{count}; sleep 0.2"))
            except WorkerUnavailable:
                ended["refused"] += 1
                time.sleep(0.2)
                continue
            except WorkerLost:
                ended["lost"] += 1
                continue
            if isinstance(answer, Refusal):
                ended["refused"] += 1
            else:
                assert answer["stdout"] == f"{number}.{count}\n"
                ended[answer["status"]] += 1

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for asker in askers:
        asker.start()
    for _ in range(3):
        time.sleep(3)
        broker.kill()
        time.sleep(0.5)
        broker.start()
    time.sleep(3)
    stop.set()
    for asker in askers:
        asker.join(60)
    assert ended["succeeded"] > 50
    assert ended["lost"] == 0
    # Each run that was begun is one that has succeeded: none was started twice, or without anybody knowing.
    # The line of the last one comes after its result.
    until(lambda: worker.log.read_text().count('"message":"run ended"') >= ended["succeeded"])
    assert worker.log.read_text().count('"message":"run ended"') == ended["succeeded"]
    until(lambda: worker.dispatcher.status()["queue"] == {"waiting": 0, "running": 0})

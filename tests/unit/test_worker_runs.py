"""The worker's table of runs: a result is kept until it is acknowledged, and told to whoever can take it."""

from __future__ import annotations

import queue
import socket
import threading
from dataclasses import replace

import pytest

from protocol.limits import Limits
from protocol.result import OutputBlob, Result
from sandbox.run.live import EventSink, LiveRun
from worker.runs import DuplicateRun, RunTable, TableFull
from worker.unix_channel import UnixChannel

RESULT = Result(status="succeeded", language="bash", limits=Limits.resolve({}))


@pytest.fixture
def table():
    return RunTable(most=3)


@pytest.fixture
def connection():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def background(table, run_id="run_1"):
    live = LiveRun(run_id, "bash", on_status=table.status)
    table.add(live)
    return live


def waited_for(table, connection, run_id="run_1"):
    live = LiveRun(run_id, "bash", outlet=EventSink(UnixChannel(connection), "status"))
    table.add(live)
    return live


def told(collector):
    messages = []
    while True:
        try:
            messages.append(collector.queue.get_nowait())
        except queue.Empty:
            return messages


def ended(run_id="run_1"):
    return {"ended": {"run_id": run_id, "result": RESULT}}


def test_a_background_runs_life_is_told(table):
    collector = table.collect()
    background(table).status("running")
    table.ended("run_1", RESULT)
    first, status, last = told(collector)
    assert (first, status["status"]["status"], last) == ({"runs": {"live": {}, "sessions": {}}}, "running", ended())


def test_a_result_is_told_again_until_it_is_acknowledged(table):
    background(table)
    table.ended("run_1", RESULT)
    for _ in range(2):
        collector = table.collect()
        assert told(collector) == [{"runs": {"live": {"run_1": None}, "sessions": {}}}, ended()]
        table.leave(collector)
    table.acknowledged("run_1")
    assert told(table.collect()) == [{"runs": {"live": {}, "sessions": {}}}]


def test_a_result_owed_to_a_connection_is_told_to_nobody_else(table, connection):
    collector = table.collect()
    waited_for(table, connection)
    table.ended("run_1", RESULT)
    assert told(collector) == [{"runs": {"live": {}, "sessions": {}}}]
    table.acknowledged("run_1")
    table.detach("run_1")
    assert told(collector) == []


@pytest.mark.parametrize("before", [True, False])
def test_a_result_whose_connection_is_gone_is_told(table, connection, before):
    collector = table.collect()
    waited_for(table, connection)
    if before:
        table.detach("run_1")
    table.ended("run_1", RESULT)
    if not before:
        table.detach("run_1")
    assert told(collector)[1:] == [ended()]


def test_a_refused_run_was_never_here(table):
    background(table)
    table.refused("run_1")
    assert table.wait_until_acknowledged(0)


def test_a_live_run_cannot_be_acknowledged_away(table):
    background(table)
    table.acknowledged("run_1")
    assert table.get("run_1") is not None


def test_an_ended_run_is_not_live(table):
    background(table)
    table.ended("run_1", RESULT)
    assert table.get("run_1") is None
    assert table.get("run_2") is None


def test_an_id_is_taken_until_it_is_acknowledged(table):
    background(table)
    table.ended("run_1", RESULT)
    with pytest.raises(DuplicateRun):
        background(table)


def test_what_is_kept_is_bounded(table):
    for number in range(3):
        background(table, f"run_{number}")
    with pytest.raises(TableFull):
        background(table, "run_9")


def test_a_collector_that_leaves_is_told_so(table):
    collector = table.collect()
    table.leave(collector)
    assert told(collector)[-1] is None


def test_the_end_of_all(table):
    lives = [background(table, f"run_{number}") for number in range(2)]
    assert not table.wait_until_ended(0.01)
    table.end_all("stopping")
    assert [live.stop for live in lives] == ["stopping"] * 2
    threading.Timer(0.02, lambda: [table.ended(live.id, RESULT) for live in lives]).start()
    assert table.wait_until_ended(5)
    assert not table.wait_until_acknowledged(0.01)
    threading.Timer(0.02, lambda: [table.acknowledged(live.id) for live in lives]).start()
    assert table.wait_until_acknowledged(5)


def test_memory_of_large_outputs_is_given_back_when_no_run_is_left(table, monkeypatch):
    trims = []
    monkeypatch.setattr("worker.runs.syscalls.malloc_trim", lambda: trims.append(1))
    large = replace(RESULT, outputs=(OutputBlob("stdout", "0" * 64, 300_000),))
    for run_id, result in (("run_1", large), ("run_2", RESULT), ("run_3", RESULT)):
        background(table, run_id)
        table.ended(run_id, result)
    table.acknowledged("run_1")
    table.acknowledged("run_2")
    assert not trims
    table.acknowledged("run_3")
    assert len(trims) == 1
    background(table)
    table.ended("run_1", RESULT)
    table.acknowledged("run_1")
    assert len(trims) == 1

"""Freezing one session: when it is done, what it is charged for, and whose memory it takes to go on."""

from __future__ import annotations

import threading
import time

import pytest

from sandbox.admission.control import Admission
from sandbox.engines import EngineError, Stats
from sandbox.sessions.group_usage import GroupUsage
from sandbox.sessions.memory import NoMemory, SessionMemory
from sandbox.sessions.power import Power

MIB = 1024 * 1024


class FakeFreezer:
    """Freezes unless it is told to fail."""

    def __init__(self):
        self.is_frozen = False
        self.fails = False

    def freeze(self):
        if self.fails:
            raise EngineError("the kernel says no")
        self.is_frozen = True
        return True

    def thaw(self):
        self.is_frozen = False

    def close(self):
        pass


class FakeSandbox:
    """A sandbox that holds 10 MiB and a bit."""

    def __init__(self):
        self.freezer = FakeFreezer()
        self.looks = 0

    def open_freezer(self):
        return self.freezer

    def held_bytes(self):
        return 10 * MIB + 1

    def stats(self):
        self.looks += 1
        return Stats(cpu_ns=self.looks * 1_000_000, oom_kills=0, memory_peak_bytes=MIB)


@pytest.fixture
def admission():
    return Admission(max_runs=4, memory_mb=1000, queue_max=10, queue_wait_s=5)


@pytest.fixture
def memory(admission):
    return SessionMemory(admission, 300)


def awake(memory, limit_mb=100):
    """A session that has taken its memory and runs."""
    memory.take(limit_mb)
    power = Power(memory, limit_mb)
    power.sandbox = FakeSandbox()
    power.attach(power.sandbox)
    return power


def test_memory_is_counted_by_its_time_as_it_is_charged(memory, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    power = awake(memory)
    clock[0] += 2
    assert (power.charged_mb_ms, power.awake_ms) == (200_000, 2000)
    assert power.freeze(lambda: True)
    clock[0] += 10
    assert (power.charged_mb_ms, power.awake_ms) == (200_000 + 110_000, 2000)
    power.thaw()
    clock[0] += 1
    power.close()
    clock[0] += 50
    assert (power.charged_mb_ms, power.awake_ms) == (410_000, 3000)


def test_the_use_of_a_frozen_session_is_read_once(memory):
    power = awake(memory)
    usage, sandbox = GroupUsage(power), power.sandbox
    assert [usage.read(sandbox, None)["cpu_ms"] for _ in range(2)] == [1, 2]
    for first in (3, 4):  # what it has used before it was frozen again counts
        assert power.freeze(lambda: True)
        assert [usage.read(sandbox, None) for _ in range(3)] == [
            {"memory_mb": 1, "disk_mb": 0, "cpu_ms": first}
        ] * 3
        power.thaw()
    assert usage.read(sandbox, None)["cpu_ms"] == 5


def test_a_frozen_session_is_charged_for_what_it_holds(memory):
    power = awake(memory)
    assert power.freeze(lambda: True)
    assert (power.is_frozen, power.sandbox.freezer.is_frozen, memory.used_mb) == (True, True, 11)
    power.thaw()
    assert (power.is_frozen, power.sandbox.freezer.is_frozen, memory.used_mb) == (False, False, 100)
    power.close()
    power.close()
    assert memory.used_mb == 0


def test_a_session_that_is_used_is_not_frozen(memory):
    power = awake(memory)
    assert not power.freeze(lambda: False)
    assert memory.used_mb == 100


def test_a_session_that_the_kernel_does_not_freeze_is_charged_as_active(memory):
    power = awake(memory)
    power.sandbox.freezer.fails = True
    assert not power.freeze(lambda: True)
    power.sandbox.freezer.fails = False
    assert not power.freeze(lambda: True), "it is not tried again at once"
    assert (power.is_frozen, memory.used_mb) == (False, 100)


def test_a_use_that_begins_while_it_is_frozen_finds_it_thawed(memory):
    power = awake(memory)
    freezing, go_on = threading.Event(), threading.Event()
    freeze = power.sandbox.freezer.freeze
    power.sandbox.freezer.freeze = lambda: (freezing.set(), go_on.wait(5), freeze())[-1]
    threads = [threading.Thread(target=power.freeze, args=(lambda: True,)), threading.Thread(target=power.thaw)]
    threads[0].start()
    assert freezing.wait(5)
    threads[1].start()
    threads[1].join(0.1)
    go_on.set()
    for thread in threads:
        thread.join()
    assert (power.is_frozen, power.sandbox.freezer.is_frozen, memory.used_mb) == (False, False, 100)


def test_a_machine_without_a_freezer_freezes_nothing(memory):
    power = awake(memory)
    power._freezer = None
    assert not power.freeze(lambda: True)


def test_time_at_rest_is_not_counted(memory):
    power = awake(memory)
    power.freeze(lambda: True)
    before = power.awake_ms
    time.sleep(0.05)
    assert power.awake_ms == before
    power.thaw()
    time.sleep(0.05)
    assert power.awake_ms >= before + 50


def test_idle_sessions_are_frozen_for_one_that_needs_memory(memory):
    first, second, third = (awake(memory) for _ in range(3))
    memory.idle = lambda: [lambda p=p: p.freeze(lambda: True) for p in (first, second)]
    memory.take(50)
    assert [power.is_frozen for power in (first, second, third)] == [True, False, False]


def test_what_gets_no_memory_is_not_thawed(memory):
    power = awake(memory)
    power.freeze(lambda: True)
    memory.take(250)
    began = time.monotonic()
    with pytest.raises(NoMemory):
        power.thaw(lambda size: memory.take(size, 0.1))
    assert time.monotonic() - began < 1
    assert (power.is_frozen, memory.used_mb) == (True, 261)


def test_a_session_is_thawed_once_by_many(memory):
    power = awake(memory)
    power.freeze(lambda: True)
    threads = [threading.Thread(target=power.thaw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (power.is_frozen, memory.used_mb) == (False, 100)


def test_one_that_ended_meanwhile_gives_back_what_was_taken_for_it(memory):
    power = awake(memory)
    power.freeze(lambda: True)
    power.thaw(lambda size: (memory.take(size), power.close()))
    assert memory.used_mb == 0


def test_sessions_and_runs_share_the_memory_of_runs(admission, memory):
    memory.take(250)
    with pytest.raises(NoMemory):
        memory.take(51, 0)
    memory.give(250)
    memory.take(300)
    assert admission.reserve("a", 600).held
    waits = admission.reserve("b", 400)
    assert not waits.held
    memory.give(300)
    assert waits.held


def test_a_run_that_would_wait_has_idle_sessions_frozen(admission, memory):
    power = awake(memory, 300)
    memory.idle = lambda: [lambda: power.freeze(lambda: True)]
    assert admission.reserve("a", 600).held
    assert not power.is_frozen
    assert admission.reserve("b", 300).held
    assert power.is_frozen


def test_a_held_place_becomes_the_memory_of_a_session(admission, memory):
    place = admission.reserve("a", 200)
    admission.keep_memory(place)
    assert admission.load().running == 0
    assert admission.reserve("b", 800).held
    waits = admission.reserve("c", 100)
    assert not waits.held
    admission.take_back(200)
    assert waits.held

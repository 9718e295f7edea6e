"""Places, the queue, and fairness between keys."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import pytest

from sandbox.admission.control import (
    Admission,
    BeyondShare,
    CancelledInQueue,
    KeyLimit,
    KeyLimitReached,
    Overloaded,
)
from sandbox.run.live import EventSink, LiveRun
from worker.unix_channel import UnixChannel


def admission(**changes):
    values = {"max_runs": 1, "memory_mb": 1000, "queue_max": 50, "queue_wait_s": 5.0}
    return Admission(**(values | changes))


@contextmanager
def place(places, key, memory_mb, live=None):
    """Hold a place for the time of a run."""
    live = live or LiveRun("run_x", "bash")
    entered = places.reserve(key, memory_mb)
    try:
        places.wait(entered, live)
        yield entered
    finally:
        places.release(entered)
        live.end()


class Waiting:
    """A run waiting on a thread of its own; records its name when admitted."""

    def __init__(self, places, name, order, *, memory_mb=100, listener=None):
        self.live = LiveRun(name, "bash", outlet=listener and EventSink(UnixChannel(listener), "all"))
        self.error = None
        self.release = threading.Event()
        self.admitted = threading.Event()
        self._arguments = (places, name, order, memory_mb, self.live)
        self._thread = threading.Thread(target=self._wait)
        before = places.load().waiting
        self._thread.start()
        while places.load().waiting == before and self._thread.is_alive() and not self.admitted.is_set():
            time.sleep(0.001)

    def _wait(self):
        places, name, order, memory_mb, live = self._arguments
        try:
            with place(places, name[0], memory_mb, live):
                order.append(name)
                self.admitted.set()
                self.release.wait(10)
        except (Overloaded, CancelledInQueue, BeyondShare) as e:
            self.error = e

    def end(self):
        self.release.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


def test_a_second_key_does_not_wait_behind_all_of_the_first_keys_runs():
    places, order = admission(), []
    with place(places, "x", 100):
        runs = [Waiting(places, f"a{n}", order) for n in range(20)]
        runs.append(Waiting(places, "b0", order))
        assert places.load().waiting == 21
    for run in runs:
        run.release.set()
    for run in runs:
        run.end()
    assert order.index("b0") <= 2
    assert [name for name in order if name[0] == "a"] == [f"a{n}" for n in range(20)]


def test_the_sum_of_memory_is_bounded():
    places, order = admission(max_runs=10, memory_mb=500), []
    with place(places, "x", 400):
        large = Waiting(places, "a0", order, memory_mb=200)
        assert order == []
    assert large.admitted.wait(5)
    large.end()
    assert places.load().memory_mb == 0


def test_a_run_larger_than_the_budget_runs_alone():
    places = admission(max_runs=10, memory_mb=100)
    with place(places, "x", 400):
        small = places.reserve("a", 1)
        assert not small.held
    assert small.held
    places.release(small)
    assert places.load().running == 0


def test_a_full_queue_refuses_at_once():
    places, order = admission(queue_max=1), []
    with place(places, "x", 1):
        run = Waiting(places, "a0", order)
        with pytest.raises(Overloaded), place(places, "b", 1):
            pass
    run.end()


def test_waiting_has_its_time():
    places = admission(queue_wait_s=0.05)
    with place(places, "x", 1):
        with pytest.raises(Overloaded), place(places, "a", 1):
            pass
        assert places.load().waiting == 0


def test_a_client_that_leaves_gives_up_its_turn():
    places, order = admission(), []
    ours, theirs = socket.socketpair()
    with ours, place(places, "x", 1):
        gone = Waiting(places, "a0", order, listener=ours)
        stays = Waiting(places, "b0", order)
        theirs.close()
        gone.end()
        assert isinstance(gone.error, CancelledInQueue)
    stays.end()
    assert order == ["b0"]
    assert places.load().running == 0


def test_a_run_whose_client_left_does_not_start_although_its_turn_came_at_the_same_moment():
    places = admission()
    ours, theirs = socket.socketpair()
    first = places.reserve("x", 1)
    second = places.reserve("a", 1)
    third = places.reserve("b", 1)
    live = LiveRun("run_x", "bash", outlet=EventSink(UnixChannel(ours), "status"))
    with ours:
        theirs.close()
        places.release(first)
        assert second.held
        with pytest.raises(CancelledInQueue):
            places.wait(second, live)
        assert live.stop == "interrupted"
    places.release(second)
    assert third.held
    places.release(third)
    assert places.load().running == 0


def test_no_descriptor_is_left_after_waiting():
    import os

    places, order = admission(), []
    before = len(os.listdir("/proc/self/fd"))
    with place(places, "x", 1):
        runs = [Waiting(places, f"a{n}", order) for n in range(10)]
    for run in runs:
        run.release.set()
    for run in runs:
        run.end()
    # Fewer is no leak: what an earlier test has left may be collected meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_run_that_was_evicted_hears_of_it_and_leaves_nothing():
    places = admission(max_runs=4, memory_mb=4000, queue_max=8)
    held = [places.reserve("a", 1) for _ in range(2)]
    greedy = [Waiting(places, f"a{n}", []) for n in range(6)]
    others = [places.reserve(key, 1) for key in "bcde"]
    assert [place.held for place in others] == [True, True, False, False]
    last = places.reserve("f", 1)
    greedy[5].end()
    assert isinstance(greedy[5].error, BeyondShare)
    with pytest.raises(BeyondShare):
        places.reserve("a", 1)
    for place in [*held, *others, last]:
        places.release(place)
    for run in greedy[:5]:
        run.end()
    assert (places.load().running, places.load().waiting) == (0, 0)


def test_a_key_has_its_share_of_the_places_and_of_the_queue():
    places = admission(max_runs=10)
    share = KeyLimit(running=2, waiting=1)
    first, second = places.reserve("a", 1, share), places.reserve("a", 1, share)
    third = places.reserve("a", 1, share)
    assert (first.held, second.held, third.held) == (True, True, False)
    with pytest.raises(KeyLimitReached):
        places.reserve("a", 1, share)
    other = places.reserve("b", 1)
    assert other.held, "nobody else waits for it"
    places.release(other)
    assert not third.held
    places.release(first)
    assert third.held
    for place in (second, third):
        places.release(place)
    load = places.load()
    assert (load.running, load.waiting, load.memory_mb) == (0, 0, 0)
    assert not places._queue._keys


def test_a_key_at_its_share_is_passed_by_and_comes_first_once_it_may():
    places = admission(max_runs=2)
    share = KeyLimit(running=1, waiting=5)
    runs = [places.reserve("a", 1, share) for _ in range(2)]
    full = places.reserve("b", 1)
    waiting = [places.reserve("b", 1), places.reserve("c", 1)]
    assert (runs[0].held, runs[1].held, full.held) == (True, False, True)
    places.release(full)
    assert waiting[0].held, "a, which is first in the queue, has its one place already"
    places.release(runs[0])
    assert runs[1].held
    assert not waiting[1].held
    places.release(waiting[0])
    assert waiting[1].held


def test_a_share_of_no_waiting():
    places = admission(max_runs=1)
    held = places.reserve("b", 1)
    with pytest.raises(KeyLimitReached):
        places.reserve("a", 1, KeyLimit(running=1, waiting=0))
    places.release(held)
    assert places.reserve("a", 1, KeyLimit(running=1, waiting=0)).held


def test_what_jobs_bring_is_bounded_for_each_key_and_for_all(monkeypatch):
    monkeypatch.setattr("sandbox.admission.control.JOBS_BYTES", 100)
    monkeypatch.setattr("sandbox.admission.control.JOBS_SHARE_BYTES", 60)
    admission = Admission(max_runs=10, memory_mb=10_000, queue_max=10, queue_wait_s=1)
    first = admission.reserve("one", 64, size=50)
    with pytest.raises(BeyondShare):
        admission.reserve("one", 64, size=20)
    admission.reserve("two", 64, size=45)
    with pytest.raises(Overloaded, match="memory"):
        admission.reserve("three", 64, size=10)
    small = admission.reserve("one", 64)
    admission.release(small)
    admission.release(first)
    assert admission.reserve("three", 64, size=55).held

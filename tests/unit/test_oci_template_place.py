"""When a template is booted, replaced, left alone, and let go: with templates that nobody is behind."""

from __future__ import annotations

import math
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from sandbox.engines import EngineError
from sandbox.engines.oci.templates.container import Template
from sandbox.engines.oci.templates.holder import RotationPolicy, TemplateHolder

PYTHON = SimpleNamespace(id="python")


class FakeBooter:
    def __init__(self):
        self.made = []
        self.ends = []
        self.failing = False
        self.gate = threading.Event()
        self.gate.set()

    def boot(self, _image, _language, _flavour):
        assert self.gate.wait(5)
        if self.failing:
            raise EngineError("no")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ends.append(theirs)
        self.made.append(Template(f"template-{len(self.made)}", ours))
        return self.made[-1]


@pytest.fixture
def booter():
    booter = FakeBooter()
    yield booter
    booter.gate.set()
    for template, end in zip(booter.made, booter.ends, strict=True):
        template.close()
        end.close()


def place_of(booter, most_runs=1000, most_seconds=3600.0):
    return TemplateHolder(booter, None, PYTHON, "", RotationPolicy(most_runs, most_seconds))


def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def fork(template):
    template.fork(65536, 0, 0)
    template.child_gone()


def test_it_is_booted_once_however_many_ask(booter):
    place = place_of(booter)
    got = []
    booter.gate.clear()
    threads = [threading.Thread(target=lambda: got.append(place.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert not place.is_booted()
    booter.gate.set()
    for thread in threads:
        thread.join(5)
    assert got == booter.made * 4
    assert len(booter.made) == 1
    assert place.is_booted()


def test_a_worn_one_serves_until_its_successor_is_ready(booter):
    place = place_of(booter, most_runs=2)
    first = place.get()
    fork(first)
    fork(first)
    booter.gate.clear()
    assert place.get() is first
    assert place.get() is first
    booter.gate.set()
    until(lambda: len(booter.made) == 2 and place.get() is booter.made[1])
    until(lambda: not first.is_alive())


def test_an_old_one_is_replaced_like_a_worn_one(booter):
    place = place_of(booter, most_seconds=0.05)
    first = place.get()
    time.sleep(0.06)
    assert place.get() is first
    until(lambda: len(booter.made) == 2)


def test_one_that_has_ended_is_replaced_at_once(booter):
    place = place_of(booter)
    first = place.get()
    booter.ends[0].shutdown(socket.SHUT_RDWR)
    assert not place.is_booted()
    assert place.get() is not first


def test_after_one_that_could_not_be_booted_there_is_a_rest(booter):
    place = place_of(booter)
    booter.failing = True
    with pytest.raises(EngineError, match="could not be booted: no"):
        place.get()
    booter.failing = False
    assert place.in_backoff()
    with pytest.raises(EngineError, match="rest"):
        place.get()
    assert booter.made == []


@pytest.mark.parametrize(("forks", "rests"), [(1, True), (2, False)])
def test_after_one_that_never_worked_there_is_a_rest(booter, forks, rests):
    place = place_of(booter)
    template = place.get()
    for _ in range(forks):
        fork(template)
    place.discard(template)
    assert place.in_backoff() is rests
    assert not template.is_alive()


def test_after_one_whose_sandbox_lacked_a_layer_there_is_none(booter, monkeypatch):
    place = place_of(booter, most_runs=1)
    first = place.get()
    fork(first)
    place.get()
    until(lambda: len(booter.made) == 2)
    until(lambda: not first.is_alive())
    place.quarantine(first)
    assert not booter.made[1].is_alive(), "its successor is of the same kind"
    monkeypatch.setattr(time, "monotonic", lambda: math.nextafter(math.inf, 0))
    assert place.in_backoff()


def test_one_that_is_let_go_while_it_boots_goes_too(booter):
    place, turns = place_of(booter), threading.Semaphore(1)
    booter.gate.clear()
    place.boot_in_background(turns)
    place.boot_in_background(turns)
    assert not turns.acquire(blocking=False)
    place.close()
    booter.gate.set()
    until(lambda: turns.acquire(blocking=False))
    assert len(booter.made) == 1
    assert not booter.made[0].is_alive()
    with pytest.raises(EngineError):
        place.get()
    place.boot_in_background(turns)
    assert len(booter.made) == 1

"""When a template is booted, replaced, left alone, and let go: with templates that nobody is behind."""

from __future__ import annotations

import math
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from sandbox.engines import EngineError
from sandbox.engines.oci.templates import source
from sandbox.engines.oci.templates.container import Template
from sandbox.engines.oci.templates.holder import RotationPolicy, TemplateHolder, kernel_rotation

PYTHON = SimpleNamespace(id="python")
IMAGE = SimpleNamespace(digest="d")


class FakeBooter:
    def __init__(self):
        self.seconds = 0.0
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
        self.made.append(Template(f"template-{len(self.made)}", ours, lambda: self.seconds))
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
    place = place_of(booter, most_seconds=60)
    first = place.get()
    booter.seconds = 59.9
    assert place.get() is first
    assert len(booter.made) == 1
    booter.seconds = 60
    assert place.get() is first
    until(lambda: len(booter.made) == 2)


DAY_S = 86_400.0


def next_day(booter, place, template):
    """A day later: the template is asked for once, and has a successor, which is returned."""
    booter.seconds += DAY_S
    count = len(booter.made)
    assert place.get() is template
    until(lambda: len(booter.made) == count + 1 and place.get() is booter.made[-1])
    return booter.made[-1]


def kernels_of(booter):
    return TemplateHolder(booter, None, PYTHON, "kernel", kernel_rotation(DAY_S))


def test_a_template_of_kernels_is_replaced_by_its_age_alone(booter):
    place = kernels_of(booter)
    first = place.get()
    fork(first)
    first.branched = 10**6
    booter.seconds = DAY_S - 1
    assert place.get() is first
    assert len(booter.made) == 1
    booter.seconds = 0
    assert next_day(booter, place, first) is not first
    until(lambda: not first.is_alive())


def test_three_generations_of_kernels_live_and_the_last_one_is_used_until_one_has_gone(booter):
    place = kernels_of(booter)
    first = place.get()
    first.fork(65536, 0, 0)
    second = next_day(booter, place, first)
    second.fork(65536, 0, 0)
    third = next_day(booter, place, second)
    third.fork(65536, 0, 0)
    assert place.generations() == 3
    booter.seconds += 7 * DAY_S
    for _ in range(3):
        assert place.get() is third
    time.sleep(0.05)
    assert len(booter.made) == 3
    first.child_gone()  # the last sandbox of a session from the oldest
    assert place.generations() == 2
    assert place.get() is third
    until(lambda: len(booter.made) == 4 and place.get() is booter.made[-1])
    assert place.generations() == 3


def test_a_generation_without_a_kernel_does_not_count(booter):
    place = kernels_of(booter)
    template = place.get()
    for _ in range(6):
        fork(template)
        template = next_day(booter, place, template)
    until(lambda: place.generations() == 1)


def test_a_template_of_kernels_that_died_is_replaced_however_many_live(booter):
    place = kernels_of(booter)
    template = place.get()
    for _ in range(2):
        template.fork(65536, 0, 0)
        template = next_day(booter, place, template)
    template.fork(65536, 0, 0)
    booter.ends[2].shutdown(socket.SHUT_RDWR)
    assert place.get() is booter.made[3]
    assert place.generations() == 4
    booter.seconds += DAY_S
    assert place.get() is booter.made[3], "and rotation waits for two of them"


def test_other_templates_have_no_bound_of_generations(booter):
    place = place_of(booter, most_seconds=DAY_S)
    template = place.get()
    for _ in range(4):
        template.fork(65536, 0, 0)
        template = next_day(booter, place, template)
    assert place.generations() == 5


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


def test_an_owner_that_left_keeps_its_template_of_kernels_while_a_sandbox_lives(booter, monkeypatch):
    monkeypatch.setattr(source, "TemplateNamespace", lambda _slots: None)
    monkeypatch.setattr(source, "TemplateBooter", lambda *_facts, **_options: booter)
    templates = source.TemplateSource(
        SimpleNamespace(slots=None), seccomp=b"", apparmor=None, relaxed=False, replaceable=True,
        wear=RotationPolicy(1000, 3600.0), kernel_wear=kernel_rotation(DAY_S), most_owners=1,
    )  # fmt: skip

    def booted(owner, flavour):
        count = len(booter.made)
        assert not templates.is_booted(IMAGE, PYTHON, flavour, owner)
        until(lambda: templates.is_booted(IMAGE, PYTHON, flavour, owner))
        assert len(booter.made) == count + 1
        return booter.made[-1]

    plain, kernels = booted("a", ""), booted("a", "kernel")
    kernels.fork(65536, 0, 0)
    plain.fork(65536, 0, 0)
    booted("b", "")
    assert (plain.is_alive(), kernels.is_alive()) == (False, True)
    assert templates.is_booted(IMAGE, PYTHON, "kernel", "a"), "it is there when its owner comes back"
    booted("b", "")
    kernels.child_gone()
    templates.is_booted(IMAGE, PYTHON, "", "b")
    assert not kernels.is_alive()
    plain.child_gone()

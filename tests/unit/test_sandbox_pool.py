"""The pool's sizes and its rules, on an engine that hands out bare sockets."""

from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace

import pytest

from sandbox import frames
from sandbox.engines import EngineError, NotConfined
from sandbox.frames import frame
from sandbox.images import Image
from sandbox.languages import Catalogue
from sandbox.pool import NotReady, WarmPool
from sandbox.pool_sizes import pool_sizes
from sandbox.shelves import Shelves

CATALOGUE = Catalogue.load()
PYTHON = CATALOGUE.get("python")


class FakeSandbox:
    def __init__(self, image):
        self.stream, self.agent = socket.socketpair()
        self.image = image
        self.loose = False
        self.destroyed = threading.Event()
        self.agent.sendall(frame(frames.READY))

    def kill(self):
        pass

    def facts(self):
        return SimpleNamespace(source="pool")

    def measure(self):
        if self.loose:
            raise NotConfined("Seccomp")

    def destroy(self):
        self.stream.close()
        self.agent.close()
        self.destroyed.set()


class FakeEngine:
    has_templates = False

    def __init__(self):
        self.made = []
        self.owners = set()
        self.failures = 0
        self.loose = False

    def has_own_template(self, image, flavour, owner):
        return owner in self.owners

    def create(self, image, *, hold=True, flavour="", container=False, owner=""):
        if self.failures:
            self.failures -= 1
            raise EngineError("no")
        sandbox = FakeSandbox(image)
        sandbox.loose = self.loose
        self.made.append(sandbox)
        return sandbox


@pytest.fixture
def made():
    engine = FakeEngine()
    images = SimpleNamespace(current=Image("python", "sha256:1", ("/x",)))
    images.get = lambda name: images.current
    pool = WarmPool(engine, images, {PYTHON: 4})
    pool.start()
    yield engine, images, pool
    pool.close()
    assert all(sandbox.destroyed.wait(5) for sandbox in engine.made)


def wait_until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def full(pool):
    return pool.counts()["python"]["ready"] == pool.counts()["python"]["size"]


def test_it_fills_and_refills(made):
    engine, _, pool = made
    wait_until(lambda: full(pool))
    sandbox, source = pool.take(PYTHON)
    assert source == "pool"
    wait_until(lambda: full(pool))
    assert sandbox not in [other for other in engine.made if other.destroyed.is_set()]
    pool.discard(sandbox)


def test_no_sandbox_is_handed_out_twice(made):
    _, _, pool = made
    taken = [pool.take(PYTHON)[0] for _ in range(30)]
    assert len(set(map(id, taken))) == 30
    for sandbox in taken:
        pool.discard(sandbox)


def test_a_warm_sandbox_that_has_died_is_passed_over(made):
    engine, _, pool = made
    wait_until(lambda: full(pool))
    for sandbox in list(engine.made):
        sandbox.agent.close()
    sandbox, _ = pool.take(PYTHON)
    assert sandbox.agent.fileno() >= 0
    pool.discard(sandbox)


def test_a_warm_sandbox_that_has_spoken_out_of_turn_is_passed_over(made):
    engine, _, pool = made
    wait_until(lambda: full(pool))
    for sandbox in list(engine.made):
        sandbox.agent.sendall(b"x")
    spoken = list(engine.made)
    sandbox, _ = pool.take(PYTHON)
    assert sandbox not in spoken
    pool.discard(sandbox)


def test_a_new_image_replaces_what_waits(made):
    _, images, pool = made
    wait_until(lambda: full(pool))
    images.current = Image("python", "sha256:2", ("/x",))
    sandbox, _ = pool.take(PYTHON)
    assert sandbox.image.digest == "sha256:2"
    pool.discard(sandbox)


def test_an_image_that_is_not_built_is_not_ready(made):
    _, images, pool = made
    images.current = None
    with pytest.raises(NotReady):
        pool.take(PYTHON)


def test_fillers_hold_back_while_a_run_is_on_and_the_pool_is_half_full(made):
    _, _, pool = made
    wait_until(lambda: full(pool))
    pool.run_begins()
    first, _ = pool.take(PYTHON)
    second, _ = pool.take(PYTHON)
    time.sleep(0.05)
    assert pool.counts()["python"]["ready"] == 2
    third, _ = pool.take(PYTHON)
    wait_until(lambda: pool.counts()["python"]["ready"] == 2)
    pool.run_ends()
    wait_until(lambda: full(pool))
    for sandbox in (first, second, third):
        pool.discard(sandbox)


@pytest.fixture
def slow_answers(monkeypatch):
    monkeypatch.setattr("sandbox.pool.ANSWER_S", 0.3)


@pytest.mark.usefixtures("slow_answers")
def test_after_a_run_fillers_hold_back_until_its_answer_is_there(made):
    _, _, pool = made
    wait_until(lambda: full(pool))
    pool.run_begins()
    sandbox, _ = pool.take(PYTHON)
    pool.discard(sandbox)
    pool.run_ends()
    time.sleep(0.1)
    assert pool.counts()["python"]["ready"] == 3
    assert not sandbox.destroyed.is_set()
    wait_until(lambda: full(pool))
    assert sandbox.destroyed.wait(5)


def test_a_failing_engine_is_tried_again_not_hammered(monkeypatch):
    monkeypatch.setattr("sandbox.shelves.RETRY_S", 0.05)
    engine = FakeEngine()
    engine.failures = 3
    images = SimpleNamespace(get=lambda name: Image("python", "sha256:1", ("/x",)))
    pool = WarmPool(engine, images, {PYTHON: 2})
    pool.start()
    wait_until(lambda: full(pool))
    assert engine.failures == 0
    pool.close()


def test_failures_in_a_row_are_tried_again_after_longer_and_longer_pauses(monkeypatch):
    pauses = []

    class Timer:
        daemon = False

        def __init__(self, seconds, resume, arguments):
            pauses.append(seconds)
            self._resume = lambda: resume(*arguments)

        def start(self):
            self._resume()

    monkeypatch.setattr("sandbox.shelves.threading.Timer", Timer)
    shelves = Shelves(FakeEngine(), {PYTHON: 4})
    shelf = shelves.find(PYTHON, "")
    for _ in range(7):
        shelves.failed(shelf)
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    shelf.making += 1
    sandbox = FakeSandbox(None)
    shelves.put(shelf, sandbox)
    shelves.failed(shelf)
    assert pauses[-1] == 2
    sandbox.destroy()


def test_fillers_that_fail_together_begin_one_pause(monkeypatch):
    begun = []
    monkeypatch.setattr(
        "sandbox.shelves.threading.Timer", lambda seconds, *_: begun.append(seconds) or SimpleNamespace(start=int)
    )
    shelves = Shelves(FakeEngine(), {PYTHON: 4})
    for _ in range(3):
        shelves.failed(shelves.find(PYTHON, ""))
    assert begun == [2]


def test_each_attempt_is_counted_by_language(monkeypatch):
    monkeypatch.setattr("sandbox.shelves.RETRY_S", 0.05)
    engine = FakeEngine()
    engine.failures = 2
    images = SimpleNamespace(get=lambda _name: Image("python", "sha256:1", ("/x",)))
    pool = WarmPool(engine, images, {PYTHON: 0})
    with pytest.raises(EngineError):
        pool.make_cold(PYTHON)
    assert pool.availability.failing()["python"].words == "no"
    pool.make_cold(PYTHON).destroy()
    assert pool.availability.is_usable()
    assert pool.availability.failing() == {}


@pytest.mark.parametrize("take", [WarmPool.take, WarmPool.make_cold])
def test_a_run_is_not_lost_to_one_failure_to_make_a_sandbox(take):
    engine = FakeEngine()
    images = SimpleNamespace(get=lambda _name: Image("python", "sha256:1", ("/x",)))
    pool = WarmPool(engine, images, {PYTHON: 0})
    pool.start()
    engine.failures = 1
    take(pool, PYTHON)
    engine.failures = 2
    with pytest.raises(EngineError):
        take(pool, PYTHON)
    assert engine.failures == 0
    pool.close()
    engine.made[0].destroy()


def test_a_sandbox_that_is_not_confined_is_never_handed_out(monkeypatch):
    monkeypatch.setattr("sandbox.shelves.RETRY_S", 0.02)
    engine = FakeEngine()
    engine.loose = True
    images = SimpleNamespace(get=lambda _name: Image("python", "sha256:1", ("/x",)))
    pool = WarmPool(engine, images, {PYTHON: 1})
    assert pool.confined is None
    pool.start()
    with pytest.raises(NotConfined):
        pool.take(PYTHON)
    assert pool.confined is False
    engine.loose = False
    wait_until(lambda: full(pool))
    assert pool.confined is True
    pool.close()
    assert all(sandbox.destroyed.wait(5) for sandbox in engine.made)


def test_sizes_follow_memory_and_never_fall_below_one():
    languages = list(CATALOGUE)
    for memory_mb in (1, 128, 1024):
        sizes = pool_sizes(languages, memory_mb=memory_mb, wanted=None)
        assert all(1 <= size <= 16 for size in sizes.values())
    assert set(pool_sizes(languages, memory_mb=0, wanted=None).values()) == {0}


def test_sizes_can_be_told():
    sizes = pool_sizes(list(CATALOGUE), memory_mb=0, wanted="python=3, node=1")
    assert {language.id: size for language, size in sizes.items() if size} == {"python": 3, "node": 1}


@pytest.mark.parametrize("wanted", ["cobol=1", "python", "python=-1", "python=x", "python=257", ""])
def test_a_wish_that_cannot_be_read_is_refused(wanted):
    with pytest.raises(ValueError, match="WARM_POOL"):
        pool_sizes(list(CATALOGUE), memory_mb=0, wanted=wanted)

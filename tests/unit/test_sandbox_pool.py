"""The pool's sizes and its rules, on an engine that hands out bare sockets."""

from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace

import pytest

from sandbox import frames
from sandbox.availability import Availability
from sandbox.engines import EngineError, NotConfined
from sandbox.frames import frame
from sandbox.images import Image
from sandbox.languages import Catalogue
from sandbox.pool.ready_queues import ReadyQueues
from sandbox.pool.sizes import pool_sizes
from sandbox.pool.warm_pool import NotReady, WarmPool

CATALOGUE = Catalogue.load()
#: Of an agent without Landlock.
HELLO = frames.PROTOCOL_VERSION.to_bytes(2, "big") + bytes(6)
PYTHON = CATALOGUE.get("python")


class FakeSandbox:
    def __init__(self, image):
        self.stream, self.agent = socket.socketpair()
        self.image = image
        self.loose = False
        self.destroyed = threading.Event()
        self.agent.sendall(frame(frames.READY, HELLO))

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

    def stop(self):
        pass

    def create(self, image, *, hold=True, flavour="", container=False, owner="", layer=None):
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


class SlowEngine(FakeEngine):
    """Makes nothing until it is told to stop, as one whose template imports libraries."""

    def __init__(self):
        super().__init__()
        self.stopped = threading.Event()

    def create(self, image, **_):
        self.stopped.wait(60)
        raise EngineError("killed while it booted")

    def stop(self):
        self.stopped.set()


def test_a_sandbox_that_is_being_made_does_not_keep_the_pool_from_closing(caplog):
    image = Image("python", "sha256:1", ("/x",))
    pool = WarmPool(SlowEngine(), SimpleNamespace(get=lambda _: image), {PYTHON: 1})
    pool.start()
    wait_until(lambda: pool.counts()["python"]["ready"] == 0 and pool._queues.find(PYTHON, "").making == 1)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 30
    assert caplog.records == []


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
    monkeypatch.setattr("sandbox.pool.warm_pool.RESPONSE_GRACE_S", 0.3)


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
    monkeypatch.setattr("sandbox.pool.ready_queues.RETRY_S", 0.05)
    engine = FakeEngine()
    engine.failures = 3
    images = SimpleNamespace(get=lambda name: Image("python", "sha256:1", ("/x",)))
    pool = WarmPool(engine, images, {PYTHON: 2})
    pool.start()
    wait_until(lambda: full(pool))
    assert engine.failures == 0
    pool.close()


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


IMAGE = Image("python", "sha256:1", ("/x",))


@pytest.fixture
def queues():
    """One language whose pool holds four, with `clock` and `availability`."""
    clock, availability = Clock(), Availability()
    made = ReadyQueues(FakeEngine(), {PYTHON: 4}, availability, clock)
    return SimpleNamespace(all=made, own=made.find(PYTHON, ""), clock=clock, availability=availability)


def pause_of(queues):
    return queues.own.paused_until - queues.clock.at


def test_failures_in_a_row_are_tried_again_after_longer_and_longer_pauses(queues):
    pauses = []
    for _ in range(7):
        queues.all.pause(queues.own)
        pauses.append(pause_of(queues))
        queues.clock.at = queues.own.paused_until
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    queues.all.resume(queues.own, 7)
    queues.all.pause(queues.own)
    assert pause_of(queues) == 2


def test_those_that_fail_together_begin_one_pause(queues):
    for _ in range(3):
        queues.all.pause(queues.own)
    queues.clock.at += 2
    queues.all.pause(queues.own)
    assert pause_of(queues) == 4


def next_of(queues):
    """What would be made next, or None if nothing is wanted now."""
    wanted = [queue for queue in queues._queues.values() if queues._wants(queue)]
    return queues.next_to_fill(lambda _name: IMAGE)[0].name if wanted else None


@pytest.fixture
def forked():
    """Shelves of a language without a pool, on an engine with templates."""
    engine, availability = FakeEngine(), Availability()
    engine.has_templates = True
    return ReadyQueues(engine, {PYTHON: 0}, availability, Clock()), availability


def test_a_language_without_a_pool_is_tried_once_before_its_first_success(forked):
    queues, availability = forked
    assert next_of(queues) == "python"
    assert next_of(queues) is None  # one is on its way
    availability.succeeded("python")
    sandbox = FakeSandbox(IMAGE)
    assert not queues.put(queues.find(PYTHON, ""), sandbox)  # it was to be seen, not kept
    assert next_of(queues) is None
    sandbox.destroy()


def test_what_has_failed_is_tried_in_its_own_way_until_it_succeeds(forked):
    queues, availability = forked
    availability.succeeded("python")
    containers = queues.find_containers(PYTHON)
    assert next_of(queues) is None
    availability.failed(containers.name, "no")
    assert next_of(queues) == "python/container"
    queues.give_up(containers)
    assert next_of(queues) == "python/container"
    availability.succeeded(containers.name)
    queues.give_up(containers)
    assert next_of(queues) is None
    assert "python/container" not in queues.counts()


def test_what_is_in_doubt_is_tried_beside_a_full_pool_and_beside_runs(queues):
    queues.availability.succeeded("python")
    sandboxes = [FakeSandbox(IMAGE) for _ in range(4)]
    for sandbox in sandboxes:
        assert next_of(queues.all) == "python"
        assert queues.all.put(queues.own, sandbox)
    assert next_of(queues.all) is None
    queues.all.run_begins()
    queues.all.pause(queues.own)
    queues.availability.failed("python", "no")
    assert next_of(queues.all) is None
    queues.clock.at += 2
    assert next_of(queues.all) == "python"
    for sandbox in sandboxes:
        sandbox.destroy()


@pytest.mark.parametrize(("failures", "resumed"), [(1, False), (2, True)])
def test_a_recovery_ends_the_pauses_of_others_too(failures, resumed):
    other = CATALOGUE.get("bash")
    queues = ReadyQueues(FakeEngine(), {PYTHON: 1, other: 1}, Availability(), Clock())
    for language in (PYTHON, other):
        queues.pause(queues.find(language, ""))
    queues.resume(queues.find(PYTHON, ""), failures)
    assert next_of(queues) == "python"
    assert next_of(queues) == ("bash" if resumed else None)


@pytest.mark.parametrize("size", [0, 1])
def test_a_runtime_that_breaks_and_is_mended_is_seen_without_another_run(monkeypatch, size):
    monkeypatch.setattr("sandbox.pool.ready_queues.RETRY_S", 0.02)
    engine = FakeEngine()
    pool = WarmPool(engine, SimpleNamespace(get=lambda _name: IMAGE), {PYTHON: size})
    pool.start()
    wait_until(pool.availability.is_usable)
    wait_until(lambda: full(pool))
    made = len(engine.made)
    time.sleep(0.1)
    assert len(engine.made) == made  # while all is well, nobody looks
    engine.failures = 4
    with pytest.raises(EngineError):
        pool.start_cold(PYTHON)
    assert not pool.availability.is_usable()
    wait_until(pool.availability.is_usable)
    assert engine.failures == 0
    pool.close()
    assert all(sandbox.destroyed.wait(5) for sandbox in engine.made)


def test_containers_that_fail_say_nothing_of_what_is_forked(monkeypatch):
    monkeypatch.setattr("sandbox.pool.ready_queues.RETRY_S", 0.02)
    engine = FakeEngine()
    engine.has_templates = True
    pool = WarmPool(engine, SimpleNamespace(get=lambda _name: IMAGE), {PYTHON: 1})
    pool.start()
    wait_until(lambda: all(queue["ready"] == queue["size"] for queue in pool.counts().values()))
    engine.failures = 5
    with pytest.raises(EngineError):
        pool.start_cold(PYTHON)
    assert list(pool.availability.failing()) == ["python/container"]
    assert pool.availability.is_usable()
    wait_until(lambda: pool.availability.failing() == {})
    assert engine.failures == 0
    pool.close()


def test_a_keys_template_that_fails_says_nothing_of_the_language():
    engine = FakeEngine()
    engine.owners.add("key")
    pool = WarmPool(engine, SimpleNamespace(get=lambda _name: IMAGE), {PYTHON: 1})
    pool.start()
    wait_until(lambda: full(pool))
    engine.failures = 1
    sandbox, source = pool.take(PYTHON, owner="key")
    assert source == "pool"
    assert not pool.availability.is_doubtful("python")
    pool.discard(sandbox)
    pool.close()


def test_each_attempt_is_counted_by_language(monkeypatch):
    monkeypatch.setattr("sandbox.pool.ready_queues.RETRY_S", 0.05)
    engine = FakeEngine()
    engine.failures = 2
    images = SimpleNamespace(get=lambda _name: Image("python", "sha256:1", ("/x",)))
    pool = WarmPool(engine, images, {PYTHON: 0})
    with pytest.raises(EngineError):
        pool.start_cold(PYTHON)
    assert pool.availability.failing()["python"].words == "no"
    pool.start_cold(PYTHON).destroy()
    assert pool.availability.is_usable()
    assert pool.availability.failing() == {}


@pytest.mark.parametrize("take", [WarmPool.take, WarmPool.start_cold])
def test_a_run_is_not_lost_to_one_failure_to_make_a_sandbox(take):
    engine = FakeEngine()
    images = SimpleNamespace(get=lambda _name: Image("python", "sha256:1", ("/x",)))
    pool = WarmPool(engine, images, {PYTHON: 0})
    pool.start()
    wait_until(pool.availability.is_usable)
    engine.failures = 1
    take(pool, PYTHON)
    engine.failures = 2
    with pytest.raises(EngineError):
        take(pool, PYTHON)
    assert engine.failures == 0
    pool.close()
    for sandbox in engine.made:
        sandbox.destroy()


def test_a_sandbox_that_is_not_confined_is_never_handed_out(monkeypatch):
    monkeypatch.setattr("sandbox.pool.ready_queues.RETRY_S", 0.02)
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

"""Sandboxes that wait with a layer: on a real pool and a real store, and an engine that hands out bare sockets."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from sandbox.engines import EngineError
from sandbox.images import Image
from sandbox.layers.store import LayersFull, LayerStore
from sandbox.pool import layer_queues
from sandbox.pool.layer_queues import BUSY_S, IDLE_S, SWEEP_S, LayerQueues
from sandbox.pool.memory import is_memory_short
from sandbox.pool.warm_pool import WarmPool
from sandbox.run.package_layers import ReadyLayer
from tests.unit.test_sandbox_layer_store import facts_of, put
from tests.unit.test_sandbox_pool import PYTHON, FakeEngine, FakeSandbox, wait_until

IMAGE = Image("python", "sha256:1", ("/x",))
NAME = "python/packages"


class Sandbox(FakeSandbox):
    """Knows its layer, and becomes outdated when the test says so."""

    def __init__(self, image, layer):
        super().__init__(image)
        self.layer = layer
        self.is_old = False

    def is_outdated(self):
        return self.is_old


class Engine(FakeEngine):
    """Makes a sandbox with a layer once `may_make` is set."""

    def __init__(self):
        super().__init__()
        self.may_make = threading.Event()
        self.may_make.set()

    def create(self, image, *, layer=None, **ways):
        if layer is None:
            return super().create(image, **ways)
        self.may_make.wait(30)
        if self.failures:
            self.failures -= 1
            raise EngineError("no")
        self.made.append(made := Sandbox(image, layer))
        return made

    def with_layer(self):
        """Those with a layer that are not destroyed."""
        return [one for one in self.made if isinstance(one, Sandbox) and not one.destroyed.is_set()]


class Rig:
    """A pool that keeps two layers, and a store of 8 MiB that has it give up what it wants to remove."""

    def __init__(self, folder, size=1, most=2):
        self.engine, self.image = Engine(), IMAGE
        self.pool = WarmPool(
            self.engine, SimpleNamespace(get=lambda _name: self.image), {PYTHON: size}, layers=most
        )
        self.store = LayerStore(folder / "layers", 8, release=self.pool.release_layer)
        self.store.open()
        self.pool.start()

    @contextmanager
    def run(self, layer_id, key="key_a"):
        """A run with a layer, until the context is left."""
        with self.store.hold(layer_id, key) as held:
            self.pool.run_begins()
            layer = ReadyLayer(layer_id, held.files, (), held.lock)
            sandbox, source = self.pool.take(PYTHON, "", key, layer=layer)
            assert sandbox.layer == held.files
            try:
                yield source
            finally:
                self.pool.discard(sandbox)
                self.pool.run_ends()

    def source(self, layer_id, key="key_a"):
        with self.run(layer_id, key) as source:
            return source

    def waits(self, *layer_ids):
        """Wait until a sandbox waits for each of these layers and for no other."""
        wanted = sorted(self.store._path(name) / "files" for name in layer_ids)
        count = {"ready": len(wanted), "size": len(wanted)}

        def is_so():
            there = sorted(one.layer for one in self.engine.with_layer())
            return there == wanted and self.pool.counts().get(NAME, {"ready": 0, "size": 0}) == count

        wait_until(is_so)

    def put(self, *layer_ids, **facts):
        for name in layer_ids:
            put(self.store, name, **({"request": (name,)} | facts))

    def queues(self):
        return self.pool._queues._layers


@pytest.fixture
def make_rig(tmp_path):
    with ExitStack() as stack:

        def make(**kwargs):
            before = open_files()
            rig = Rig(tmp_path, **kwargs)

            def close():
                rig.engine.may_make.set()
                rig.pool.close()
                assert all(one.destroyed.wait(5) for one in rig.engine.made)
                assert open_files() <= before, "a lock on a layer is left"

            stack.callback(close)
            return rig

        yield make


@pytest.fixture
def rig(make_rig):
    return make_rig()


def open_files():
    """The number of directories that this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "/layers/" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return count


def test_the_second_run_with_a_layer_gets_one_that_waits(rig):
    rig.put("lay_a")
    assert rig.source("lay_a") == "cold"
    for _ in range(3):
        rig.waits("lay_a")
        assert rig.source("lay_a") == "pool"


def test_the_next_is_made_when_the_run_has_ended(rig):
    rig.put("lay_a")
    with rig.run("lay_a"):
        wait_until(lambda: rig.pool.counts()[NAME] == {"ready": 0, "size": 1})
        assert len(rig.engine.with_layer()) == 1
    rig.waits("lay_a")


def test_a_long_run_does_not_keep_the_next_from_being_made(rig, monkeypatch):
    monkeypatch.setattr(layer_queues, "BUSY_S", 0.05)
    monkeypatch.setattr(layer_queues, "SWEEP_S", 0.05)
    rig.put("lay_a")
    with rig.run("lay_a"):
        wait_until(lambda: rig.pool.counts()[NAME]["ready"] == 1)
        assert rig.source("lay_a") == "pool"


def test_the_least_recently_used_gives_its_place(rig):
    rig.put("lay_a", "lay_b", "lay_c", mb=0)
    for name in ("lay_a", "lay_b", "lay_a"):
        rig.source(name)
    rig.waits("lay_a", "lay_b")
    assert rig.source("lay_c") == "cold"
    rig.waits("lay_a", "lay_c")
    assert rig.source("lay_b") == "cold"
    rig.waits("lay_b", "lay_c")


def test_a_key_with_many_layers_takes_no_place_of_another(make_rig):
    rig = make_rig(most=3)
    rig.put("lay_other", key="key_b", users=("key_b",))
    rig.put("lay_a", "lay_b", "lay_c", "lay_d", mb=0)
    rig.source("lay_other", "key_b")
    for name in ("lay_a", "lay_b", "lay_c", "lay_d"):
        rig.source(name)
    rig.waits("lay_c", "lay_d", "lay_other")
    assert rig.source("lay_other", "key_b") == "pool"


@pytest.mark.parametrize("sizes", [{"size": 0}, {"most": 0}], ids=["no pool", "no layers"])
def test_none_waits_where_none_is_wanted(make_rig, sizes):
    rig = make_rig(**sizes)
    rig.put("lay_a")
    assert [rig.source("lay_a") for _ in range(2)] == ["cold", "cold"]
    wait_until(lambda: rig.engine.with_layer() == [])
    assert NAME not in rig.pool.counts()


def test_a_layer_without_a_lock_is_not_kept(rig, tmp_path):
    sandbox, _ = rig.pool.take(PYTHON, "", "key_a", layer=ReadyLayer("lay_x", tmp_path))
    rig.pool.discard(sandbox)
    assert NAME not in rig.pool.counts()


def test_one_that_waits_gives_way_to_a_layer_that_needs_its_room(rig):
    rig.put("lay_a", mb=2)
    rig.source("lay_a")
    rig.waits("lay_a")
    rig.put("lay_b", mb=2)
    assert not rig.store._path("lay_a").exists()
    rig.waits()


def test_one_that_is_being_made_gives_way_too(rig):
    rig.put("lay_a", mb=2)
    rig.source("lay_a")
    rig.waits("lay_a")
    rig.engine.may_make.clear()
    rig.source("lay_a")
    (queue,) = rig.queues()
    wait_until(lambda: queue.making == 1)
    threading.Timer(0.2, rig.engine.may_make.set).start()
    rig.put("lay_b", mb=2)
    assert not rig.store._path("lay_a").exists()
    rig.waits()


def test_a_layer_in_use_stays_and_then_waits_no_more(rig):
    rig.put("lay_a", mb=2)
    with rig.run("lay_a"):
        with pytest.raises(LayersFull):
            rig.put("lay_b", mb=2)
        assert (rig.store._path("lay_a") / "files").is_dir()
    rig.waits()
    rig.put("lay_c", mb=2)
    assert not rig.store._path("lay_a").exists()


def test_the_cleaning_leaves_what_is_within_the_bounds(rig):
    rig.put("lay_a")
    rig.source("lay_a")
    rig.waits("lay_a")
    assert rig.store.collect() == 0
    assert rig.source("lay_a") == "pool"


def test_where_one_cannot_be_made_the_layer_is_let_go(rig):
    rig.put("lay_a")
    rig.source("lay_a")
    rig.waits("lay_a")
    rig.engine.failures = 1
    rig.source("lay_a")
    rig.waits()
    assert rig.pool.availability.failing() == {}
    assert not rig.store._is_held("lay_a")
    assert rig.source("lay_a") == "cold"
    rig.waits("lay_a")


@pytest.fixture
def quick(monkeypatch):
    """Look at what waits all the time."""
    monkeypatch.setattr(layer_queues, "SWEEP_S", 0.02)


@pytest.mark.usefixtures("quick")
def test_one_of_another_generation_is_made_again(rig):
    rig.put("lay_a")
    rig.source("lay_a")
    rig.waits("lay_a")
    (old,) = rig.engine.with_layer()
    old.is_old = True
    assert old.destroyed.wait(5)
    rig.waits("lay_a")
    assert rig.source("lay_a") == "pool"


@pytest.mark.usefixtures("quick")
def test_one_that_has_died_is_made_again(rig):
    rig.put("lay_a")
    rig.source("lay_a")
    rig.waits("lay_a")
    (dead,) = rig.engine.with_layer()
    dead.agent.close()
    assert dead.destroyed.wait(5)
    rig.waits("lay_a")


@pytest.mark.usefixtures("quick")
def test_a_new_image_ends_what_waits_for_the_old_one(rig):
    rig.put("lay_a")
    rig.source("lay_a")
    rig.waits("lay_a")
    rig.image = Image("python", "sha256:2", ("/x",))
    rig.waits()
    assert not rig.store._is_held("lay_a")


class Clock:
    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


@pytest.fixture
def alone(tmp_path):
    """The queues without a pool, with `clock`, `ended`, and `is_short` of memory."""
    found = SimpleNamespace(clock=Clock(), ended=[], is_short=False)
    found.queues = LayerQueues(2, found.clock, found.ended.append, lambda: found.is_short)
    found.lock = os.open(tmp_path, os.O_RDONLY)
    layer = ReadyLayer("lay_a", tmp_path, (), found.lock)
    found.use = lambda: found.queues.use(PYTHON, IMAGE, layer, "key_a")
    found.sweep = lambda: found.queues.sweep(lambda _language: IMAGE)
    yield found
    for one in [*found.ended, *found.queues.close()]:
        one.destroy()
    os.close(found.lock)


def test_a_layer_that_is_not_asked_for_any_more_is_let_go(alone):
    queue = alone.use()
    alone.clock.at += IDLE_S - 1
    alone.sweep()
    assert alone.use() is queue
    alone.clock.at += IDLE_S + SWEEP_S
    alone.sweep()
    assert (len(alone.ended), queue.lock, list(alone.queues)) == (1, -1, [])
    assert alone.use() is not queue


def test_where_memory_is_short_none_waits_until_it_is_not(alone):
    alone.use()
    alone.is_short = True
    alone.clock.at += SWEEP_S
    alone.sweep()
    assert len(alone.ended) == 1
    assert alone.use() is None
    alone.is_short = False
    assert alone.queues.next_due_s() == SWEEP_S
    alone.clock.at += SWEEP_S
    alone.sweep()
    assert alone.use() is not None


def test_the_queues_know_when_there_is_something_to_do(alone):
    assert alone.queues.next_due_s() is None
    queue = alone.use()
    assert alone.queues.next_due_s() == BUSY_S
    assert not alone.queues.wants(queue)
    alone.clock.at += BUSY_S
    assert alone.queues.wants(queue)
    assert alone.queues.next_due_s() == SWEEP_S - BUSY_S
    alone.use()
    alone.queues.run_has_ended()
    assert alone.queues.wants(queue)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 99 kB\n", True),
        ("MemTotal: 1000 kB\nMemAvailable: 100 kB\n", False),
        ("MemTotal: 1000 kB\n", False),
        ("MemTotal:\nMemAvailable: x\n", False),
    ],
)
def test_memory_is_short_below_a_tenth(tmp_path, text, short):
    (tmp_path / "meminfo").write_text(text)
    assert is_memory_short(tmp_path / "meminfo") is short
    assert is_memory_short(tmp_path / "nothing") is False


def test_the_facts_of_a_waiting_layer_are_those_of_its_runs(rig):
    """Waiting is no use of a layer: it does not make it younger than those that runs use."""
    rig.put("lay_a")
    rig.source("lay_a")
    os.utime(rig.store._path("lay_a"), (1000, 1000))
    rig.waits("lay_a")
    assert rig.store._path("lay_a").stat().st_mtime == 1000
    assert rig.store.known_to("key_a", "lay_a") == facts_of("lay_a", request=("lay_a",))

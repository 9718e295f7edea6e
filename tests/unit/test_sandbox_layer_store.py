"""The layers on the disk: who may use one, what is removed first, and what is never removed."""

import itertools
import multiprocessing
import os

import pytest

from protocol.limits import MIB
from sandbox.layers.facts import RESOLVED_AGAIN_S, LayerFacts, LockedPackage
from sandbox.layers.store import UNFINISHED, LayersFull, LayerStore

REQUEST = ("six==1.16.0",)


@pytest.fixture
def make(tmp_path):
    times = itertools.count(1000)

    def made(max_mb=8):
        store = LayerStore(tmp_path / "layers", max_mb, lambda: float(next(times)))
        store.open()
        return store

    return made


def facts_of(layer_id, key="key_a", mb=1, **changed):
    given = {
        "language": "python", "image": "sha256:1", "request": REQUEST, "sha256": "0" * 64,
        "packages": (LockedPackage("six", "1.16.0", "f" * 64),), "size": mb * MIB,
        "is_pinned": True, "is_shared": False, "created_at": 1000.0, "users": (key,),
    }  # fmt: skip
    return LayerFacts(id=layer_id, key=key, **(given | changed))


def put(store, *args, **kwargs):
    facts = facts_of(*args, **kwargs)
    place = store.make_place(facts.id)
    (place / "files").mkdir()
    store.add(facts, place)
    return facts


def test_a_layer_is_found_again_by_another_worker(make):
    facts = put(make(), "lay_a")
    assert make().find("key_a", "sha256:1", REQUEST) == facts


@pytest.mark.parametrize(("image", "request_"), [("sha256:2", REQUEST), ("sha256:1", ("six==1.15.0",))])
def test_a_layer_answers_its_own_image_and_request_alone(make, image, request_):
    store = make()
    put(store, "lay_a")
    assert store.find("key_a", image, request_) is None


def test_another_key_uses_only_what_is_shared(make):
    store = make()
    put(store, "lay_own")
    assert store.find("key_b", "sha256:1", REQUEST) is None
    shared = put(store, "lay_shared", is_shared=True)
    assert store.find("key_b", "sha256:1", REQUEST) == shared


def test_a_key_knows_a_shared_layer_after_its_first_use_and_after_a_restart(make):
    store = make()
    put(store, "lay_a", is_shared=True)
    assert store.known_to("key_b", "lay_a") is None
    with store.hold("lay_a", "key_b") as held:
        assert held.files.is_dir()
    assert store.known_to("key_b", "lay_a").users == ("key_a", "key_b")
    assert make().known_to("key_b", "lay_a") is not None
    assert store.known_to("key_c", "lay_a") is None


def test_an_unpinned_request_is_resolved_again_after_a_week():
    unpinned = facts_of("lay_a", is_pinned=False)
    assert unpinned.is_fresh(1000.0 + RESOLVED_AGAIN_S - 1)
    assert not unpinned.is_fresh(1000.0 + RESOLVED_AGAIN_S)
    assert facts_of("lay_b").is_fresh(1000.0 + 100 * RESOLVED_AGAIN_S)


def test_the_least_recently_used_goes_first(make, tmp_path):
    store = make(max_mb=8)
    put(store, "lay_a")
    put(store, "lay_b")
    with store.hold("lay_a", "key_a"):
        pass
    put(store, "lay_c")
    assert sorted(path.name for path in (tmp_path / "layers").iterdir()) == ["lay_a", "lay_c"]


def test_a_key_fills_a_quarter_and_takes_nothing_of_others(make):
    store = make(max_mb=8)
    put(store, "lay_other", "key_b", 2)
    put(store, "lay_a", "key_a", 2)
    put(store, "lay_b", "key_a", 2, request=("b==1",))
    assert store.find("key_b", "sha256:1", REQUEST) is not None
    assert store.find("key_a", "sha256:1", REQUEST) is None
    with pytest.raises(LayersFull, match="of this key"):
        put(store, "lay_c", "key_a", 3)


def test_one_in_use_is_never_removed(make):
    store = make(max_mb=8)
    put(store, "lay_a", mb=2)
    with store.hold("lay_a", "key_a") as held:
        with pytest.raises(LayersFull):
            put(store, "lay_b")
        assert held.files.is_dir()
    put(store, "lay_c")
    assert store.find("key_a", "sha256:1", REQUEST).id == "lay_c"


def collect_in(directory):
    other = LayerStore(directory, 0)
    other.open()
    other.collect()


def test_another_process_removes_none_in_use(make, tmp_path):
    store = make()
    put(store, "lay_a")
    put(store, "lay_b")
    with store.hold("lay_a", "key_a") as held:
        child = multiprocessing.get_context("spawn").Process(target=collect_in, args=(tmp_path / "layers",))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert held.files.is_dir()
    with store.hold("lay_b", "key_a") as removed:
        assert removed is None
    assert store.known_to("key_a", "lay_b") is None


def test_a_process_beside_the_worker_leaves_what_is_in_the_making(make, tmp_path):
    place = make().make_place("lay_new")
    collect_in(tmp_path / "layers")
    assert place.is_dir()


def test_a_smaller_bound_is_kept_by_the_next_cleaning(make):
    put(make(), "lay_a", mb=2)
    store = make(max_mb=4)
    assert store.collect() == 1
    assert store.find("key_a", "sha256:1", REQUEST) is None


def test_what_is_not_complete_is_removed_at_start(make, tmp_path):
    make().make_place("lay_new")
    for name in ("lay_empty", "lay_false", "lay_bad"):
        (tmp_path / "layers" / name).mkdir()
    (tmp_path / "layers/lay_bad/layer.json").write_text("[1")
    (tmp_path / "layers/lay_false/layer.json").write_text(facts_of("lay_else").to_json())
    store = make()
    store.tidy()
    assert list((tmp_path / "layers").iterdir()) == []
    assert store.make_place("lay_new").name == f"{UNFINISHED}lay_new"


def test_what_is_held_or_was_used_of_late_is_in_use(make):
    store = make(max_mb=16)
    held, used, idle = (put(store, name, request=(name,)) for name in ("lay_held", "lay_used", "lay_idle"))
    with store.hold("lay_used", "key_a"):
        pass
    moment = store._last_use(idle)
    with store.hold("lay_held", "key_a"):
        os.utime(store._path("lay_held"), (0, 0))
        assert store.used_since(moment) == [held, used]
    assert store.used_since(moment) == [used]


def test_no_layer_takes_the_place_of_another(make):
    store = make()
    first = put(store, "lay_a")
    with pytest.raises(FileExistsError):
        put(store, "lay_a", request=("other==1",))
    assert store.find("key_a", "sha256:1", REQUEST) == first
    assert make().find("key_a", "sha256:1", REQUEST) == first

"""Layers in S3: found by another worker, never believed, never more than their bound, and never a failed run."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest

import ops.layers
from config.ids import new_id
from config.settings import Settings
from protocol.limits import MIB
from sandbox.layers.bucket import LayerBucket
from sandbox.layers.build import BuiltLayer
from sandbox.layers.builds import BuildName, LayerBuilds
from sandbox.layers.entry import DIRECTORY, FILE, LINK, LayerEntry
from sandbox.layers.facts import LayerFacts, LockedPackage
from sandbox.layers.packed import PackedHead, pack_layer
from sandbox.layers.places import PLACES
from sandbox.layers.provider import LayerProvider
from sandbox.layers.resolutions import Resolutions
from sandbox.layers.store import FILES, LayerStore
from sandbox.layers.stored import object_name
from sandbox.layers.writer import LayerWriter
from storage.errors import StorageUnavailable
from storage.s3 import S3Location
from storage.s3_objects import S3Objects

IMAGE = "sha256:1"
REQUEST = ("six==1.16.0",)
WANTED = BuildName("key_a", IMAGE, REQUEST)
SIX = LockedPackage("six", "1.16.0", "f" * 64)
ENTRIES = [
    (LayerEntry(DIRECTORY, b"opt"), b""),
    (LayerEntry(DIRECTORY, b"opt/packages"), b""),
    (LayerEntry(DIRECTORY, b"opt/packages/python", 0o700), b""),
    (LayerEntry(FILE, b"opt/packages/python/six.py", 0o644, 6), b"x = 1\n"),
    (LayerEntry(FILE, b"opt/packages/python/run\xff", 0o755, 0), b""),
    (LayerEntry(LINK, b"opt/packages/python/link", target=b"/etc/shadow"), b""),
]


class Objects(S3Objects):
    """Objects whose age the tests choose, and that can be out of reach."""

    def __init__(self, place):
        super().__init__(place)
        self.ages = {}
        self.is_down = False
        self.asked = 0

    def _key(self, name):
        self.asked += 1
        if self.is_down:
            raise StorageUnavailable("storage does not answer")
        return super()._key(name)

    def listed(self, prefix="", most=None):
        self.asked += 1
        if self.is_down:
            raise StorageUnavailable("storage does not answer")
        for one in super().listed(prefix, most):
            yield replace(one, age_s=self.ages.get(one.name, one.age_s))


class Worker:
    """The layers of one machine, with the bucket that it shares."""

    def __init__(self, directory, objects, max_mb=64):
        self.store = LayerStore(directory, max_mb)
        self.store.open()
        self.objects = objects
        self.bucket = LayerBucket(objects, self.store, max_mb=max_mb, interval_s=1.0)

    def make(self, entries=ENTRIES, **changed):
        """Write a layer as a build does."""
        layer_id = new_id("lay")
        place = self.store.make_place(layer_id)
        with LayerWriter(place / f"{FILES}.new") as writer:
            for entry, content in entries:
                writer.add(entry)
                if content:
                    writer.data(content)
            written = writer.keep(place / FILES)
        given = {
            "key": "key_a", "language": "python", "image": IMAGE, "request": REQUEST, "packages": (SIX,),
            "is_pinned": True, "is_shared": False, "created_at": time.time(), "users": ("key_a",),
        }  # fmt: skip
        facts = LayerFacts(id=layer_id, size=written.size, sha256=written.sha256, **(given | changed))
        self.store.add(facts, place)
        return facts

    def send(self, facts):
        self.bucket._send(facts)
        return facts

    def fetch(self, wanted=WANTED, locked=(), *, is_pinned=True, patience_s=60.0):
        place = self.store.make_place(new_id("lay"))
        found = self.bucket.fetch(
            wanted,
            "python",
            place,
            places=PLACES["pip"],
            locked=locked,
            is_pinned=is_pinned,
            deadline=time.monotonic() + patience_s,
        )
        if found is None:
            assert [path.name for path in place.iterdir()] == []
            self.store.drop_place(place)
        else:
            self.store.add(found, place)
        return found


@pytest.fixture
def objects(s3_server):
    name = f"l-{uuid.uuid4().hex[:12]}"
    s3_server.admin.create_bucket(Bucket=name)
    return Objects(S3Location(s3_server.connection("path"), name, "up/layers/"))


@pytest.fixture
def workers(objects, tmp_path):
    return Worker(tmp_path / "one", objects), Worker(tmp_path / "two", objects)


def names(objects):
    return sorted(one.name for one in objects.listed())


def tree(files):
    return sorted(
        (str(path.relative_to(files)), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in files.rglob("*")
        if not path.is_symlink()
    )


def test_another_worker_has_the_same_files(workers):
    one, two = workers
    made = one.send(one.make())
    found = two.fetch()
    assert found == replace(made, created_at=found.created_at, stored_as=object_name(made))
    places = [worker.store._path(made.id) / FILES for worker in workers]
    assert tree(places[0]) == tree(places[1])
    assert (places[1] / "opt/packages/python/link").is_symlink()
    assert two.store.known_to("key_a", made.id).id == made.id


def test_only_a_shared_layer_serves_another_key(workers):
    one, two = workers
    one.send(one.make())
    other = replace(WANTED, key="key_b")
    assert two.fetch(other) is None
    shared = one.send(one.make(is_shared=True))
    found = two.fetch(other)
    # On the second machine it counts for the key that had it fetched, and is known to no other.
    assert (found.id, found.key, found.users) == (shared.id, "key_b", ("key_b",))
    assert object_name(found) == object_name(shared)


@pytest.mark.parametrize("changed", [{"image": "sha256:2"}, {"request": ("six==1.15.0",)}])
def test_a_layer_answers_its_own_image_and_request_alone(workers, changed):
    one, two = workers
    one.send(one.make(is_shared=True))
    assert two.fetch(replace(WANTED, **changed)) is None


def test_a_request_is_resolved_again_after_a_week_and_never_to_other_files(workers):
    one, two = workers
    old = time.time() - 8 * 24 * 3600
    one.send(one.make(created_at=old))
    assert two.fetch(is_pinned=False) is None
    assert two.fetch(locked=(replace(SIX, sha256="e" * 64),)) is None
    assert two.fetch(locked=(SIX,)).created_at == pytest.approx(old, abs=1)


def spoil(facts, worker, change):
    """Put another object in the place of a layer's."""
    with worker.objects.open(object_name(facts)) as pieces:
        whole = b"".join(pieces)
    worker.objects.put(object_name(facts), [change(whole)])


def other_head(**changed):
    def change(whole):
        length = int.from_bytes(whole[:4], "big")
        text = json.dumps(json.loads(whole[4 : 4 + length]) | changed).encode()
        return len(text).to_bytes(4, "big") + text + whole[4 + length :]

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"\xff" * 100,
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: whole.replace(b"x = 1", b"x = 2"),
        lambda whole: whole.replace(b"python/six.py", b"python/../../x"[:13]),
        lambda whole: whole.replace(b"opt/packages/python/run", b"opt/packages/pythonerun"),
        lambda whole: (9 << 20).to_bytes(4, "big") + whole[4:],
        lambda _: b"\0\0\0\2[]",
        lambda _: b"\0\1\0\0" + b"[" * 65_536,
        other_head(format=2),
        other_head(id="../../../etc"),
        other_head(id="lay_short"),
        other_head(id=None),
        other_head(image="sha256:2"),
        other_head(request=["six"]),
        other_head(request=[1]),
        other_head(sha256="0" * 64),
        other_head(is_shared=True),
        other_head(is_shared=0),
        other_head(created_at=float("nan")),
        other_head(created_at="now"),
        other_head(packages=[["six", "1.16.0", "no hash"]]),
        other_head(packages=None),
    ],
)
def test_a_damaged_or_planted_object_is_not_used_and_is_removed(workers, change):
    one, two = workers
    spoil(one.send(one.make()), one, change)
    assert two.fetch() is None
    assert names(one.objects) == []
    assert list(two.store._directory.iterdir()) == []


def test_files_outside_of_the_place_of_packages_are_refused(workers):
    one, two = workers
    one.send(one.make([(LayerEntry(DIRECTORY, b"opt"), b""), (LayerEntry(FILE, b"opt/agent", 0o644), b"")]))
    assert two.fetch() is None


def test_a_layer_of_another_is_not_replaced(workers):
    one, two = workers
    mine = two.make(request=("mine==1",))
    spoil(one.send(one.make()), one, other_head(id=mine.id))
    with pytest.raises(FileExistsError):
        two.fetch()
    assert two.store.find("key_a", IMAGE, ("mine==1",)) == mine


def test_a_store_out_of_reach_is_left_alone_for_a_while(workers, monkeypatch):
    one, two = workers
    one.send(one.make())
    two.objects.is_down = True
    assert two.fetch() is None
    asked = two.objects.asked
    assert two.fetch() is None
    assert two.objects.asked == asked
    two.objects.is_down = False
    monkeypatch.setattr("sandbox.layers.bucket.REST_S", 0.0)
    two.bucket._rests_until = 0.0
    assert two.fetch() is not None


def test_a_store_that_is_too_slow_is_not_waited_for(workers):
    one, two = workers
    one.send(one.make())
    assert two.fetch(patience_s=0.0) is None


def test_what_is_offered_is_sent_and_a_failure_stops_nothing(workers):
    one, _ = workers
    one.bucket.start()
    one.objects.is_down = True
    one.bucket.offer(one.make(request=("lost==1",)))
    until(lambda: one.bucket._waiting.empty() and one.objects.asked)
    one.objects.is_down = False
    made = one.make()
    one.bucket.offer(made)
    until(lambda: object_name(made) in names(one.objects))


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_layer_that_was_not_stored_is_stored_after_its_next_use(workers):
    one, _ = workers
    made = one.make()
    one.bucket.start()
    assert one.bucket.collect() == 0
    until(lambda: names(one.objects) == [object_name(made)])


# -- the bound ---------------------------------------------------------------------------------------


def big(n, key="key_a", **changed):
    """Return what makes a layer of one MiB."""
    content = bytes([n]) * (MIB - 64 * 1024)
    entries = [*ENTRIES, (LayerEntry(FILE, b"opt/packages/python/big", 0o644, len(content)), content)]
    return {"entries": entries, "key": key, "users": (key,), "request": (f"big=={n}",), **changed}


@pytest.fixture
def small(objects, tmp_path):
    return Worker(tmp_path / "small", objects, max_mb=8)


def aged(objects, facts, age_s):
    objects.ages[object_name(facts)] = age_s


def test_the_least_recently_used_of_a_key_goes_first(small, tmp_path):
    fetcher = Worker(tmp_path / "wide", small.objects)
    made = [fetcher.send(fetcher.make(**big(n))) for n in range(3)]
    for facts, age_s in zip(made, (3000, 5000, 4000), strict=True):
        aged(small.objects, facts, age_s)
    other = fetcher.send(fetcher.make(**big(9, "key_b")))
    aged(small.objects, other, 9000)
    assert small.bucket.collect() == 1
    left = {object_name(made[0]), object_name(made[2]), object_name(other)}
    assert set(names(small.objects)) == left
    # A layer of the key needs room: the least recently used one of this key makes it.
    new = small.send(small.make(**big(5)))
    assert set(names(small.objects)) == {object_name(made[0]), object_name(other), object_name(new)}


def test_one_in_use_on_any_machine_is_never_removed(small, tmp_path):
    user = Worker(tmp_path / "user", small.objects)
    made = [user.send(user.make(**big(n))) for n in range(3)]
    for facts, age_s in zip(made, (9000, 99_000, 5000), strict=True):
        aged(small.objects, facts, age_s)
    with user.store.hold(made[1].id, "key_a"):
        for facts in made:
            os.utime(user.store._path(facts.id), (1000, 1000))
        assert user.bucket.collect() == 0
    assert small.bucket.collect() == 1
    left = {object_name(made[1]), f"{object_name(made[1])}.used", object_name(made[2])}
    assert set(names(small.objects)) == left


def test_what_was_stored_of_late_is_spared_and_then_nothing_more_is_stored(small):
    made = [small.send(small.make(**big(n))) for n in range(2)]
    third = small.send(small.make(**big(2)))
    assert names(small.objects) == sorted(object_name(facts) for facts in made)
    assert object_name(third) not in names(small.objects)


def test_a_mark_of_use_without_its_layer_goes(small):
    made = small.send(small.make())
    small.bucket.collect()
    assert names(small.objects) == [object_name(made), f"{object_name(made)}.used"]
    small.store._remove(made.id)
    small.objects.delete(object_name(made))
    small.bucket.collect()
    assert len(names(small.objects)) == 1
    small.objects.ages[f"{object_name(made)}.used"] = 9000
    small.bucket.collect()
    assert names(small.objects) == []


def test_what_is_not_a_layers_is_left_alone(small):
    small.objects.put("notes", [b"mine"])
    small.objects.ages["notes"] = 1e9
    assert small.bucket.collect() == 0
    assert names(small.objects) == ["notes"]


def test_a_head_has_all_that_is_told_of_a_layer(small):
    made = small.make()
    first = next(pack_layer(PackedHead.of(made), small.store._path(made.id) / FILES))
    told = json.loads(first[4:])
    assert told == {
        "format": 1, "id": made.id, "image": IMAGE, "request": list(REQUEST), "sha256": made.sha256,
        "packages": [["six", "1.16.0", "f" * 64]], "created_at": made.created_at, "is_shared": False,
    }  # fmt: skip


# -- what provides layers to runs ------------------------------------------------------------------------


class Builder:
    """Makes a layer without a sandbox."""

    def __init__(self):
        self.orders = []

    def build(self, order, place, _on_output, _deadline):
        self.orders.append(order)
        with LayerWriter(place.with_name(f"{place.name}.new")) as writer:
            for entry, content in ENTRIES:
                writer.add(entry)
                if content:
                    writer.data(content)
            return BuiltLayer(writer.keep(place), (SIX,), is_pure=True)


def provider_of(worker):
    """Return a provider for a worker's store and bucket, and the builder that it has."""
    worker.bucket.start()
    builder = Builder()
    images = {"python": SimpleNamespace(digest=IMAGE)}
    resolutions = Resolutions(worker.store._directory.with_suffix(".resolved"))
    builds = LayerBuilds()
    return LayerProvider(
        {"python": "python"}, images, worker.store, builds, builder, resolutions, worker.bucket
    ), builder


def ready(provider, key="key_a"):
    given = {"key": key, "language": "python", "packages": REQUEST, "on_output": print, "patience_s": 60.0}
    with provider.ready(**given) as layer:
        assert (layer.files / "opt/packages/python/six.py").read_text() == "x = 1\n"
        return layer.id


def test_a_layer_is_built_by_one_worker_and_fetched_by_the_other(workers):
    (first, builder), (second, other) = map(provider_of, workers)
    made = ready(first)
    until(lambda: names(workers[0].objects))
    assert {ready(second), ready(second, "key_b"), ready(second)} == {made}
    assert (len(builder.orders), other.orders) == (1, [])
    assert second.known_to("key_b", made).packages == (SIX,)
    assert second.known_to("key_c", made) is None
    # The packages are recorded as after a build: later files for the same version are refused.
    shutil.rmtree(workers[1].store._path(made))
    workers[1].store._facts.clear()
    workers[1].objects.delete(names(workers[1].objects)[0])
    ready(second)
    assert other.orders[0].locked == (SIX,)


def test_keys_that_fetch_a_shared_layer_at_a_time_have_one(workers):
    (first, _), (second, other) = map(provider_of, workers)
    made = ready(first)
    until(lambda: names(workers[0].objects))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: ready(second, f"key_{n}"), range(4)))
    assert (set(found), other.orders) == ({made}, [])
    assert [path.name for path in workers[1].store._directory.iterdir()] == [made]


def test_a_run_does_without_the_bucket(workers):
    (first, builder), _ = map(provider_of, workers)
    workers[0].objects.is_down = True
    ready(first)
    assert len(builder.orders) == 1


def test_make_gc_keeps_the_bound_of_the_bucket(objects, s3_server, tmp_path, monkeypatch, capsys):
    bucket = objects._place.bucket
    there = Objects(replace(objects._place, prefix="gc/layers/"))
    worker = Worker(tmp_path / "other", there)
    made = [worker.send(worker.make(**big(n))) for n in range(5)]
    told = {"storage_url": f"s3://{bucket}/gc", "s3_endpoint_url": s3_server.url, "s3_addressing": "path"}
    told |= {"cleanup_interval_s": 0.0}
    settings = Settings(state_dir=tmp_path, packages="any", layers_max_mb=16).model_copy(update=told)
    settings.layers_dir.mkdir()
    monkeypatch.setattr("ops.layers.load_settings", lambda: settings)
    assert ops.layers.main() == 0
    assert len(names(there)) == 5
    monkeypatch.setattr("sandbox.layers.bucket.LEAST_SPARED_S", 0.0)
    assert ops.layers.main() == 0
    assert capsys.readouterr().out == "0 layers of packages removed\n1 layers of packages removed\n"
    assert set(names(there)) < {object_name(facts) for facts in made}

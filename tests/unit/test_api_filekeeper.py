"""What goes from storage when its last file has gone, and what does not: real stores, a real database."""

from __future__ import annotations

import os
import time

import pytest

from api.files.blob_gc import UNREFERENCED_MS, BlobCollector
from dispatch import WorkerUnavailable
from records import migrate, open_records
from records.files import NewFile
from records.files import StoredBlob as NamedBlob
from storage import GRACE_S
from storage.areas import ApiAreas
from storage.local import LocalReader, LocalStore

OWNER = "key_1"


class Worker:
    """The one who may delete artifacts, here in the same process."""

    def __init__(self, store):
        self.store = store
        self.down = False

    def forget(self, hashes):
        if self.down:
            raise WorkerUnavailable("down")
        return [sha256 for sha256 in hashes if self.store.delete(sha256)]


class Rig:
    def __init__(self, folder):
        for name in ("uploads", "artifacts"):
            (folder / name).mkdir(mode=0o700)
        self.folder = folder
        migrate(f"sqlite:///{folder}/db.sqlite")
        self.records = open_records(f"sqlite:///{folder}/db.sqlite")
        self.stores = {name: LocalStore(folder / f"{name}s") for name in ("upload", "artifact")}
        self.worker = Worker(self.stores["artifact"])
        areas = ApiAreas(self.stores["upload"], LocalReader(folder / "artifacts"))
        self.keeper = BlobCollector(self.records.files, areas, self.worker)
        self.later_ms = time.time_ns() // 1_000_000 + UNREFERENCED_MS + 1000

    def store(self, area, content, age_s=GRACE_S + 1):
        blob = self.stores[area].put([content], len(content))
        self.age(area, blob.sha256, age_s)
        return blob

    def age(self, area, sha256, age_s):
        path = self.folder / f"{area}s" / "blobs" / sha256[:2] / sha256
        os.utime(path, (time.time() - age_s,) * 2)

    def name(self, blob, file_id, **fields):
        self.records.files.put(OWNER, NewFile(file_id, "n", "n", blob.size, blob.sha256, "text/plain", 1, **fields))

    def has(self, area, blob):
        return self.stores[area].stat(blob.sha256) is not None


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.records.close()


def test_a_blob_goes_with_its_last_file(rig):
    blob = rig.store("upload", b"shared")
    rig.name(blob, "file_1")
    rig.name(blob, "file_2")
    rig.records.files.delete(OWNER, "file_1")
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 0
    assert rig.has("upload", blob)
    rig.records.files.delete(OWNER, "file_2")
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 1
    assert not rig.has("upload", blob)


def test_what_was_just_left_has_its_grace(rig):
    blob = rig.store("upload", b"x")
    rig.name(blob, "file_1")
    rig.records.files.delete(OWNER, "file_1")
    assert rig.keeper.delete_unreferenced(time.time_ns() // 1_000_000) == 0
    assert rig.has("upload", blob)


def test_bytes_that_were_stored_again_a_moment_ago_are_spared(rig):
    blob = rig.store("upload", b"x")
    rig.name(blob, "file_1")
    rig.records.files.delete(OWNER, "file_1")
    rig.store("upload", b"x", age_s=0)
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 0
    assert rig.has("upload", blob)
    rig.age("upload", blob.sha256, GRACE_S + 1)
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 1


def test_a_download_that_has_begun_completes(rig):
    content = os.urandom(2 << 20)
    blob = rig.store("upload", content)
    rig.name(blob, "file_1")
    with rig.stores["upload"].open(blob) as pieces:
        first = next(pieces)
        rig.records.files.delete(OWNER, "file_1")
        assert rig.keeper.delete_unreferenced(rig.later_ms) == 1
        assert first + b"".join(pieces) == content


def test_an_upload_that_the_quota_refused_late_goes(rig):
    blob = rig.store("upload", b"late")
    rig.records.files.mark_unreferenced([NamedBlob("upload", blob.sha256)])
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 1
    assert not rig.has("upload", blob)


def test_an_abandoned_blob_that_another_file_names_stays(rig):
    blob = rig.store("upload", b"late")
    rig.name(blob, "file_1")
    rig.records.files.mark_unreferenced([NamedBlob("upload", blob.sha256)])
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 0
    assert rig.has("upload", blob)


def test_artifacts_wait_for_the_worker(rig):
    blob = rig.store("artifact", b"made")
    rig.records.files.mark_unreferenced([NamedBlob("artifact", blob.sha256)])
    rig.worker.down = True
    with pytest.raises(WorkerUnavailable):
        rig.keeper.delete_unreferenced(rig.later_ms)
    assert rig.has("artifact", blob)
    rig.worker.down = False
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 1
    assert not rig.has("artifact", blob)
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 0


@pytest.mark.parametrize("area", ["upload", "artifact"])
def test_what_a_crash_left_between_blob_and_record_goes_after_a_day(rig, area):
    old = rig.store(area, b"old", age_s=25 * 3600)
    young = rig.store(area, b"young", age_s=3600)
    assert rig.keeper.delete_orphans() == 1
    assert (rig.has(area, old), rig.has(area, young)) == (False, True)


def test_an_old_blob_that_a_file_names_is_no_orphan(rig):
    blob = rig.store("upload", b"old", age_s=25 * 3600)
    rig.name(blob, "file_1")
    assert rig.keeper.delete_orphans() == 0
    assert rig.has("upload", blob)


def test_a_file_whose_time_is_up_goes_and_its_blob_after_it(rig):
    blob = rig.store("upload", b"x")
    rig.name(blob, "file_1", expires_at_ms=1000)
    assert rig.records.files.get(OWNER, "file_1") is None
    assert rig.records.retention.expire_files(now_ms=2000) == 1
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 1
    assert not rig.has("upload", blob)


def test_more_than_one_batch(rig, monkeypatch):
    monkeypatch.setattr("api.files.blob_gc.BATCH", 2)
    monkeypatch.setattr("api.files.blob_gc.TOLD_AT_ONCE", 1)
    for area in ("upload", "artifact"):
        for number in range(3):
            blob = rig.store(area, b"%d" % number)
            rig.records.files.mark_unreferenced([NamedBlob(area, blob.sha256)])
    assert rig.keeper.delete_unreferenced(rig.later_ms) == 6

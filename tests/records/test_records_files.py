"""Files: kept as they are named, within a key's room, and their blobs known for as long as somebody names them."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from records.files import FileRecord, StorageQuotaExceeded, StoredBlob
from records.retention import Policy, sweep
from tests.records.builders import a_file, an_end, ended, unique

HOSTILE = ["", "\0", "a\0b", "\ud800", "../../etc/passwd", "ü\u202egnp.exe", "x" * 10_000, "'; DROP TABLE files"]


def sha(content):
    return hashlib.sha256(content).hexdigest()


def test_a_file_comes_back_as_it_was_put(records):
    owner = unique("key")
    file = a_file(purpose="input", expires_at_ms=records_far_future())
    put = records.files.put(owner, file)
    assert isinstance(put, FileRecord)
    assert (put.area, put.run_id, put.purpose) == ("upload", None, "input")
    assert records.files.get(owner, file.id) == put
    assert records.files.linked(file.id) == put
    assert put.blob == StoredBlob("upload", file.sha256)
    assert records.files.get(unique("key"), file.id) is None


def records_far_future():
    return 2_000_000_000_000


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_name_holds_it_is_only_a_name(records, text):
    owner = unique("key")
    file = a_file(name=text, path=text, content_type=text, purpose=text)
    records.files.put(owner, file)
    found = records.files.get(owner, file.id)
    assert (found.name, found.path, found.content_type, found.purpose) == (text, text, text, text)
    assert records.files.get(owner, text) is None
    assert not records.files.delete(owner, text)


def test_the_limit_is_on_all_of_an_owners_files(records):
    owner = unique("key")
    first = records.files.put(owner, a_file(size=60), limit_bytes=100)
    assert records.files.put(owner, a_file(size=41), limit_bytes=100) == StorageQuotaExceeded(60, 100)
    assert isinstance(records.files.put(owner, a_file(size=40), limit_bytes=100), FileRecord)
    assert records.files.put(owner, a_file(size=1), limit_bytes=100) == StorageQuotaExceeded(100, 100)
    assert isinstance(records.files.put(owner, a_file(size=0), limit_bytes=100), FileRecord)
    records.files.delete(owner, first.id)
    assert records.files.stored_bytes(owner) == 40
    assert records.files.put(unique("key"), a_file(size=101), limit_bytes=100) == StorageQuotaExceeded(0, 100)


def test_artifacts_are_never_refused_but_count(records):
    owner = unique("key")
    ended(records, owner, an_end(artifacts=(a_file(size=80), a_file(size=70))))
    assert records.files.stored_bytes(owner) == 150
    assert records.files.put(owner, a_file(size=1), limit_bytes=100) == StorageQuotaExceeded(150, 100)


def test_a_runs_artifacts_are_those_that_are_still_there(records):
    owner = unique("key")
    one, two, three = a_file(b"1"), a_file(b"2", expires_at_ms=records_far_future()), a_file(b"3", expires_at_ms=1)
    run_id = ended(records, owner, an_end(artifacts=(one, two, three)))
    found = records.files.of_run(owner, run_id)
    assert [(file.id, file.area, file.run_id) for file in found] == [
        (one.id, "artifact", run_id),
        (two.id, "artifact", run_id),
    ]
    records.files.delete(owner, one.id)
    assert [file.id for file in records.files.of_run(owner, run_id)] == [two.id]
    assert records.files.of_run(unique("key"), run_id) == ()


def test_parallel_uploads_do_not_pass_the_limit_together(records):
    owner = unique("key")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: records.files.put(owner, a_file(size=30), limit_bytes=100), range(20)))
    assert sum(isinstance(answer, FileRecord) for answer in answers) == 3
    assert records.files.stored_bytes(owner) == 90


def test_an_expired_file_is_gone_before_it_is_swept(own_records, clock):
    records = own_records
    file = a_file(expires_at_ms=clock.now_ms + 1000)
    kept = a_file(b"other")
    for each in (file, kept):
        records.files.put("key_a", each)
    clock.now_ms += 1000
    assert records.files.get("key_a", file.id) is None
    assert records.files.linked(file.id) is None
    assert [found.id for found in records.files.list("key_a", limit=9).items] == [kept.id]
    assert records.files.stored_bytes("key_a") == file.size + kept.size
    assert sweep(records.retention, Policy(runs_days=1, runs_count=9), clock.now_ms) == 1
    assert records.files.stored_bytes("key_a") == kept.size
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == (file_blob(file),)


def file_blob(file, area="upload"):
    return StoredBlob(area, file.sha256)


def test_a_blob_is_unnamed_when_the_last_file_that_names_it_is_gone(own_records, clock):
    records = own_records
    one, two = a_file(b"same"), a_file(b"same")
    for file in (one, two):
        records.files.put("key_a", file)
    records.files.delete("key_a", one.id)
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == ()
    records.files.delete("key_a", two.id)
    assert records.files.unreferenced(before_ms=clock.now_ms) == ()
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == (file_blob(one),)
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == (file_blob(one),)
    records.files.delete_rows([file_blob(one)])
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == ()


def test_a_blob_that_is_named_anew_is_not_unnamed(own_records, clock):
    records = own_records
    file = a_file(b"same")
    records.files.put("key_a", file)
    records.files.delete("key_a", file.id)
    records.files.put("key_b", a_file(b"same"))
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == ()


def test_an_upload_and_an_artifact_of_the_same_bytes_are_two_blobs(own_records, clock):
    records = own_records
    upload, artifact = a_file(b"same"), a_file(b"same")
    records.files.put("key_a", upload)
    run_id = ended(records, end=an_end(artifacts=(artifact,)))
    wanted = {StoredBlob("upload", upload.sha256), StoredBlob("artifact", artifact.sha256)}
    assert records.files.in_use([*wanted, StoredBlob("upload", sha(b"unknown"))]) == wanted
    records.runs.delete("key_a", run_id)
    assert records.files.in_use(wanted) == {StoredBlob("upload", upload.sha256)}
    assert records.files.unreferenced(before_ms=clock.now_ms + 1) == (StoredBlob("artifact", artifact.sha256),)


def test_many_blobs_are_asked_after_in_one_call(records):
    owner = unique("key")
    file = a_file(b"here")
    records.files.put(owner, file)
    blobs = [StoredBlob("upload", sha(b"%d" % number)) for number in range(1700)]
    assert records.files.in_use([*blobs, file_blob(file)]) == {file_blob(file)}
    records.files.delete_rows(blobs)
    assert records.files.in_use([]) == frozenset()


def test_deleting_is_the_owners_and_happens_once(records):
    owner = unique("key")
    file = a_file()
    records.files.put(owner, file)
    assert not records.files.delete(unique("key"), file.id)
    assert records.files.delete(owner, file.id)
    assert not records.files.delete(owner, file.id)
    assert records.files.stored_bytes(owner) == 0

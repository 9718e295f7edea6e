"""What is too large for a record: in storage, named by its run, and told as if it were in the record."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from api.runs.document import RunFacts
from api.runs.stored_outputs import WholeRuns, whole
from protocol.job import MAX_RECORD_BYTES
from protocol.limits import Limits
from protocol.result import Result
from records import migrate, open_records
from records.files import Blob as FileBlob
from records.runs import NewRun, RunBlob
from sandbox.run.stored_outputs import store_outputs
from storage.areas import ApiAreas
from storage.errors import StorageUnavailable
from storage.local import LocalStore

FACTS = RunFacts("run_x", "key_x", "bash", {"memory_mb": 256}, {"a": "]}"}, "00", "2026-01-01T00:00:00Z", 0, 100)
LARGE = 'é\n"\\' * (MAX_RECORD_BYTES // 4)


@pytest.fixture
def areas(tmp_path):
    for name in ("uploads", "artifacts"):
        (tmp_path / name).mkdir(mode=0o700)
    found = ApiAreas(LocalStore(tmp_path / "uploads"), LocalStore(tmp_path / "artifacts"))
    yield found
    found.uploads.close()
    found.artifacts.close()


@pytest.fixture
def records(tmp_path):
    url = f"sqlite:///{tmp_path}/records.sqlite"
    migrate(url)
    opened = open_records(url)
    yield opened
    opened.close()


def an_end(areas, stdout, stderr=""):
    result = Result("succeeded", "bash", Limits.resolve({}), exit_code=0, stdout=stdout, stderr=stderr)
    outputs = store_outputs(areas.artifacts, stdout, stderr)
    return FACTS.ended(replace(result, outputs=outputs).to_json())


def accept(runs, **fields):
    runs.accept(NewRun("run_x", "key_x", "bash", 0, FACTS.live("running"), b"{}", "running", **fields))


@pytest.mark.parametrize(
    ("stdout", "stderr", "stored"),
    [
        ("x" * MAX_RECORD_BYTES, "", []),
        ("x" * (MAX_RECORD_BYTES + 1), "", ["stdout"]),
        ("\N{GRINNING FACE}" * (MAX_RECORD_BYTES // 4), "e", []),
        (LARGE, LARGE + "e", ["stdout", "stderr"]),
    ],
)
def test_an_output_beyond_the_bound_is_a_blob_and_is_told_whole(areas, records, stdout, stderr, stored):
    end = an_end(areas, stdout, stderr)
    assert [blob.part for blob in end.blobs] == stored
    runs = WholeRuns(records.runs, areas)
    accept(runs)
    assert runs.finish("run_x", 1, end)
    run = runs.get("key_x", "run_x")
    told = orjson.loads(run.document)
    assert (told["stdout"], told["stderr"], told["metadata"]) == (stdout, stderr, {"a": "]}"})
    assert runs.list("key_x", limit=5).items == (run,)
    assert run.document == (end.answer or end.document)
    inline = sum(len(text) for part, text in (("stdout", stdout), ("stderr", stderr)) if part not in stored)
    kept = orjson.loads(records.runs.get("key_x", "run_x").document)
    assert len(kept["stdout"]) + len(kept["stderr"]) == inline
    counted = records.retention.kept_bytes()
    assert counted > sum(blob.size for blob in end.blobs)


def test_its_blobs_are_named_until_the_run_is_forgotten(areas, records):
    end = an_end(areas, LARGE, LARGE + "e")
    accept(records.runs)
    records.runs.finish("run_x", 1, end)
    blobs = {FileBlob(blob.area, blob.sha256) for blob in end.blobs}
    assert records.files.in_use(blobs) == blobs
    records.files.abandon(blobs)
    assert records.files.unnamed(before_ms=2**62) == ()
    assert records.runs.delete("key_x", "run_x") == "deleted"
    assert records.files.in_use(blobs) == frozenset()
    assert set(records.files.unnamed(before_ms=2**62)) == blobs


def test_a_large_request_is_read_from_storage_and_counted(areas, records):
    body = b'{"code":"%s"}' % (b"x" * 300_000)
    stored = areas.uploads.put([body], len(body))
    runs = WholeRuns(records.runs, areas)
    accept_large = NewRun(
        "run_x", "key_x", "bash", 0, FACTS.live("running"), b"", "running",
        blob=RunBlob("request", "upload", stored.sha256, stored.size),
    )  # fmt: skip
    runs.accept(accept_large)
    assert runs.request("key_x", "run_x") == body
    assert runs.request("another", "run_x") is None
    assert records.runs.request_blob("another", "run_x") is None
    runs.finish("run_x", 1, an_end(areas, "small"))
    assert records.retention.kept_bytes() > len(body)


def test_the_request_of_a_run_that_never_was_is_left(areas, records):
    accept(records.runs, blob=RunBlob("request", "upload", "0" * 64, 5))
    assert records.runs.discard("run_x")
    assert records.files.unnamed(before_ms=2**62) == (FileBlob("upload", "0" * 64),)


def test_an_output_that_is_lost_costs_itself_alone(areas, records, tmp_path):
    end = an_end(areas, LARGE, "kept")
    for path in (tmp_path / "artifacts").rglob("*"):
        if path.is_file():
            path.unlink()
    told = orjson.loads(whole(end.document, areas.artifacts))
    assert (told["stdout"], told["stdout_truncated"], told["stderr"]) == ("", True, "kept")
    assert "_blobs" not in told


def test_an_output_that_cannot_be_stored_stays_in_the_record():
    class Broken:
        def writer(self, max_bytes):
            raise StorageUnavailable

    assert store_outputs(Broken(), LARGE, "") == ()

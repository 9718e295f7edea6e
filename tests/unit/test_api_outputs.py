"""What is too large for a record: in storage, named by its run, and told as if it were in the record."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.pagination import list_body, list_ends
from api.runs.document import RunRecord
from api.runs.stored_outputs import Outputs, escaped
from config.pieces import PIECE_BYTES
from protocol.job import MAX_RECORD_BYTES
from protocol.limits import Limits
from protocol.result import Result
from records import migrate, open_records
from records.files import StoredBlob as FileBlob
from records.runs import FIRST_ATTEMPT, NewRun, Run, RunBlob
from sandbox.run.stored_outputs import store_outputs
from storage.areas import ApiAreas
from storage.errors import BlobDamaged, BlobMissing, StorageUnavailable
from storage.local import LocalStore

FACTS = RunRecord("run_x", "key_x", "bash", {"memory_mb": 256}, {"a": "]}"}, "00", "2026-01-01T00:00:00Z", 0, 100)
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
    accept(records.runs)
    assert records.runs.finish("run_x", 1, end)
    run = Outputs(areas).whole(records.runs.get("key_x", "run_x"))
    told = orjson.loads(run.document)
    assert (told["stdout"], told["stderr"], told["metadata"]) == (stdout, stderr, {"a": "]}"})
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
    records.files.mark_unreferenced(blobs)
    assert records.files.unreferenced(before_ms=2**62) == ()
    assert records.runs.delete("key_x", "run_x") == "deleted"
    assert records.files.in_use(blobs) == frozenset()
    assert set(records.files.unreferenced(before_ms=2**62)) == blobs


def test_a_large_request_is_read_from_storage_and_counted(areas, records, tmp_path):
    body = b'{"code":"%s"}' % (b"x" * 300_000)
    stored = areas.uploads.put([body], len(body))
    accept_large = NewRun(
        "run_x", "key_x", "bash", 0, FACTS.live("running"), b"", "running",
        blob=RunBlob("request", "upload", stored.sha256, stored.size),
    )  # fmt: skip
    runs = records.runs
    runs.accept(accept_large)
    assert runs.request("key_x", "run_x") == b""
    blob = runs.request_blob("key_x", "run_x")
    parts = Outputs(areas).parts(FACTS.live("running"), request=blob)
    assert sent(areas, parts) == FACTS.live("running")[:-1] + b',"request":' + body + b"}"
    (path,) = (path for path in tmp_path.glob("uploads/blobs/*/*") if path.is_file())
    path.unlink()
    with pytest.raises(BlobMissing):
        Outputs(areas).parts(FACTS.live("running"), request=blob)
    assert records.runs.request_blob("another", "run_x") is None
    runs.finish("run_x", 1, an_end(areas, "small"))
    assert records.retention.kept_bytes() > len(body)


def test_the_request_of_a_run_that_never_was_is_left(areas, records):
    accept(records.runs, blob=RunBlob("request", "upload", "0" * 64, 5))
    assert records.runs.discard("run_x")
    assert records.files.unreferenced(before_ms=2**62) == (FileBlob("upload", "0" * 64),)


def blobs_of(tmp_path):
    """The files of stored outputs, the smallest first."""
    return sorted(tmp_path.glob("artifacts/blobs/*/*"), key=lambda path: path.stat().st_size)


def sent(areas, parts, outputs=None):
    return b"".join((outputs or Outputs(areas)).read(parts))


def test_it_is_sent_in_pieces_that_are_worth_sending_and_small(areas):
    end = an_end(areas, "\1" * 8_000_000, "é" * 1_000_000)
    outputs = Outputs(areas)
    pieces = list(outputs.read(outputs.parts(end.document)))
    assert b"".join(pieces) == end.answer
    assert all(PIECE_BYTES <= len(piece) < 2 * PIECE_BYTES for piece in pieces[:-1])


def test_what_is_recorded_is_signed_and_no_output_is_touched(areas):
    end = an_end(areas, LARGE, '"artifacts":[')
    signed = sent(areas, Outputs(areas).parts(end.document, lambda text: text.replace(b"artifacts", b"signed")))
    assert signed == end.answer.replace(b"artifacts", b"signed")


def test_an_output_that_looks_like_a_document_is_only_an_output(areas):
    end = an_end(areas, '","stderr":"","_blobs":[]}' * 10_000, LARGE)
    assert len(end.blobs) == 1
    assert sent(areas, Outputs(areas).parts(end.document)) == end.answer


@pytest.mark.parametrize("number", [1, 3])
def test_a_list_of_several_is_the_list_of_all_of_them(areas, number):
    ends = [an_end(areas, LARGE + str(n), LARGE) for n in range(number)] + [an_end(areas, "small")]
    ids = [f"run_{n}" for n in range(len(ends))]
    before, behind = list_ends(ids, has_more=True, next_url="/v1/runs?after=run_1")
    parts = [before]
    for n, end in enumerate(ends):
        parts += [b","] * (n > 0) + Outputs(areas).parts(end.document)
    whole = [(an_id, orjson.Fragment(end.answer or end.document)) for an_id, end in zip(ids, ends, strict=True)]
    assert sent(areas, [*parts, behind]) == list_body(whole, has_more=True, next_url="/v1/runs?after=run_1")


def test_an_output_that_is_lost_costs_itself_alone(areas, tmp_path):
    end = an_end(areas, LARGE, "kept")
    for path in blobs_of(tmp_path):
        path.unlink()
    told = orjson.loads(sent(areas, Outputs(areas).parts(end.document)))
    assert (told["stdout"], told["stdout_truncated"], told["stderr"]) == ("", True, "kept")
    assert "_blobs" not in told


def test_so_does_one_of_another_size_and_the_other_output_is_told(areas, tmp_path):
    end = an_end(areas, LARGE, LARGE + "e")
    blobs_of(tmp_path)[0].write_bytes(b"short")
    told = orjson.loads(sent(areas, Outputs(areas).parts(end.document)))
    assert (told["stdout"], told["stdout_truncated"]) == ("", True)
    assert (told["stderr"], told["stderr_truncated"]) == (LARGE + "e", False)


def test_a_damaged_output_ends_the_answer_before_its_last_bytes_and_is_lost_the_next_time(areas, tmp_path):
    end = an_end(areas, LARGE, "kept")
    (path,) = blobs_of(tmp_path)
    path.write_bytes(b"x" * path.stat().st_size)
    outputs, given = Outputs(areas), []
    with pytest.raises(BlobDamaged):
        given.extend(outputs.read(outputs.parts(end.document)))
    assert b"stderr" not in b"".join(given)
    told = orjson.loads(sent(areas, outputs.parts(end.document), outputs))
    assert (told["stdout"], told["stdout_truncated"], told["stderr"]) == ("", True, "kept")


def test_in_memory_a_damaged_output_is_a_lost_one(areas, tmp_path):
    end = an_end(areas, LARGE, LARGE + "e")
    for path in blobs_of(tmp_path):
        path.write_bytes(b"x" * path.stat().st_size)
    run = Run("run_x", "key_x", "succeeded", "bash", FIRST_ATTEMPT, 0, 0, end.document)
    told = orjson.loads(Outputs(areas).whole(run).document)
    assert (told["stdout"], told["stdout_truncated"], told["stderr_truncated"]) == ("", True, True)


def test_storage_that_does_not_answer_is_said_before_the_answer_begins(areas):
    class Silent:
        def stat(self, sha256):
            raise StorageUnavailable

    end = an_end(areas, LARGE)
    with pytest.raises(StorageUnavailable):
        Outputs(ApiAreas(areas.uploads, Silent())).parts(end.document)


@settings(max_examples=300)
@given(
    st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.integers(1, 7), min_size=1), st.integers(1, 5)
)
def test_text_in_pieces_is_escaped_as_the_whole_of_it(text, lengths, characters):
    data, pieces, at = text.encode(), [], 0
    while at < len(data):
        length = lengths[len(pieces) % len(lengths)]
        pieces.append(data[at : at + length])
        at += length
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.runs.stored_outputs.TEXT_CHARACTERS", characters)
        assert b'"' + b"".join(escaped(pieces)) + b'"' == orjson.dumps(text)


@pytest.mark.parametrize("pieces", [[b"a", b"\xc3"], [b"\xc3", b"("], [b"\xff"], [b"\xed\xa0\x80"]])
def test_what_is_no_text_is_not_told_as_one(pieces):
    with pytest.raises(UnicodeDecodeError):
        list(escaped(pieces))


def test_an_output_that_cannot_be_stored_stays_in_the_record():
    class Broken:
        def writer(self, max_bytes):
            raise StorageUnavailable

    assert store_outputs(Broken(), LARGE, "") == ()

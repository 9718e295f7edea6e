"""The programs of functions that a worker keeps in memory."""

from __future__ import annotations

import hashlib
import os

import pytest

from protocol.job import JobInput
from sandbox.blobs import RunStorage
from sandbox.programs import KeptPrograms
from storage.areas import WorkerAreas
from storage.errors import BlobDamaged, BlobMissing
from storage.local import LocalStore


def test_those_used_last_are_kept():
    kept = KeptPrograms(most_bytes=10, largest_bytes=6)
    kept.keep("a", (b"123", b"4"))
    kept.keep("b", (b"5678",))
    assert kept.get("a") == (b"123", b"4")
    kept.keep("c", (b"9999",))
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == ((b"123", b"4"), None, (b"9999",))
    assert (kept.may_keep(6), kept.may_keep(7)) == (True, False)


def test_one_that_is_larger_than_all_room_is_not_left_there():
    kept = KeptPrograms(most_bytes=3)
    kept.keep("a", (b"1234",))
    assert kept.get("a") is None
    kept.keep("b", (b"12",))
    assert kept.get("b") == (b"12",)


@pytest.fixture
def stored(tmp_path):
    """A stored program of two pieces, its job's input, and the file that it is in."""
    (tmp_path / "artifacts").mkdir(mode=0o700)
    area = LocalStore(tmp_path / "artifacts")
    content = os.urandom(400_000)
    blob = area.put(iter([content]), len(content))
    (path,) = (path for path in tmp_path.rglob("*") if path.name == blob.sha256)
    storage = RunStorage(WorkerAreas(artifacts=area, uploads=area))
    return storage, JobInput(".runyard/program", "artifact", blob.sha256, blob.size), path, content


def test_a_program_is_read_once(stored):
    storage, item, path, content = stored
    assert b"".join(storage.program(item)) == content
    path.unlink()
    assert b"".join(storage.program(item)) == content


def test_a_damaged_program_is_neither_sent_to_its_end_nor_kept(stored):
    storage, item, path, content = stored
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    for _ in range(2):
        sent = []
        with pytest.raises(BlobDamaged):
            sent.extend(storage.program(item))
        assert len(b"".join(sent)) < len(content)
    path.unlink()
    with pytest.raises(BlobMissing):
        list(storage.program(item))


def test_one_whose_sending_stops_is_not_kept(stored):
    storage, item, path, content = stored
    sending = storage.program(item)
    next(sending)
    sending.close()
    path.unlink()
    with pytest.raises(BlobMissing):
        list(storage.program(item))
    assert hashlib.sha256(content).hexdigest() == item.sha256

"""What every store promises, tested on each."""

from __future__ import annotations

import hashlib
import os
import threading
import time

import pytest

from storage import CHUNK_BYTES, Blob
from storage.errors import BlobDamaged, BlobMissing, BlobTooLarge
from storage.sweep import orphans, sweep

MIB = 1024 * 1024
SEVERAL_PIECES = os.urandom(3 * CHUNK_BYTES + 17)


def blob_of(data):
    return Blob(hashlib.sha256(data).hexdigest(), len(data))


def read(reader, blob, offset=0, length=None):
    with reader.open(blob, offset, length) as content:
        return b"".join(content)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [b"a"],
        [b"hello ", b"", b"world\n"],
        [b"x" * CHUNK_BYTES],
        [b"x" * CHUNK_BYTES, b"y"],
        [SEVERAL_PIECES],
    ],
    ids=["nothing", "an empty piece", "a byte", "pieces", "a chunk", "a chunk and a byte", "chunks"],
)
def test_what_is_stored_comes_back(rig, pieces):
    data = b"".join(pieces)
    blob = rig.store.put(iter(pieces), max_bytes=10 * MIB)
    assert blob == blob_of(data)
    assert read(rig.reader, blob) == data
    assert rig.everything() == [blob.sha256]


def test_a_large_blob_comes_back_in_pieces(rig):
    pieces = [os.urandom(MIB) for _ in range(20)]
    blob = rig.store.put(pieces, max_bytes=20 * MIB)
    whole = hashlib.sha256()
    with rig.reader.open(blob) as content:
        for piece in content:
            assert 0 < len(piece) <= CHUNK_BYTES
            whole.update(piece)
    assert whole.hexdigest() == blob.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert rig.everything() == [blob.sha256]


@pytest.mark.parametrize("cap", [0, 1, 1000])
def test_exactly_the_cap_is_accepted_and_a_byte_more_is_not(rig, cap):
    assert rig.store.put([b"x" * cap], max_bytes=cap).size == cap
    before = rig.everything()
    with pytest.raises(BlobTooLarge, match=f"larger than {cap} bytes") as refused:
        rig.store.put([b"x" * cap, b"x"], max_bytes=cap)
    assert refused.value.max_bytes == cap
    assert rig.everything() == before


def test_a_writer_counts_and_keeps_the_head(rig):
    with rig.store.writer(10_000) as writer:
        writer.write(b"\x89PNG")
        writer.write(memoryview(bytearray(b"\r\n\x1a\n" + b"z" * 1000)))
        assert (writer.size, len(writer.head)) == (1008, 512)
        assert writer.head.startswith(b"\x89PNG\r\n\x1a\nz")
        blob = writer.commit()
    assert blob.size == 1008
    assert read(rig.reader, blob)[:9] == b"\x89PNG\r\n\x1a\nz"


def test_what_is_not_committed_was_never_there(rig):
    with rig.store.writer(MIB) as left:
        left.write(b"half")
    dropped = rig.store.writer(MIB)
    dropped.write(b"dropped")
    dropped.abort()
    dropped.abort()
    forgotten = rig.store.writer(MIB)
    forgotten.write(b"forgotten")
    del forgotten
    assert rig.everything() == []
    for use in (lambda: dropped.write(b"more"), dropped.commit):
        with pytest.raises(ValueError, match="committed or aborted"):
            use()


def test_a_source_that_fails_leaves_nothing(rig):
    def source():
        yield b"first"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        rig.store.put(source(), MIB)
    assert rig.everything() == []


def test_the_same_bytes_are_one_blob_and_their_age_begins_anew(rig):
    blob = rig.store.put([b"same"], MIB)
    time.sleep(3.1)  # S3 tells the time in whole seconds
    old = rig.store.stat(blob.sha256)
    assert old.blob == blob
    assert old.age_s > 1
    assert rig.store.put([b"sa", b"me"], MIB) == blob
    assert rig.everything() == [blob.sha256]
    assert rig.store.stat(blob.sha256).age_s <= old.age_s - 1


def test_many_threads_store_the_same_and_others(rig):
    stored = []
    threads = [
        threading.Thread(target=lambda n=n: stored.append(rig.store.put([b"%d" % (n % 3)] * 1000, MIB)))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == 12
    assert rig.everything() == sorted({blob.sha256 for blob in stored})
    assert len(rig.everything()) == 3
    for blob in stored:
        assert len(read(rig.reader, blob)) == 1000


def test_a_missing_blob_says_so(rig):
    blob = blob_of(b"never stored")
    with pytest.raises(BlobMissing, match=blob.sha256):
        rig.reader.open(blob)
    assert rig.reader.stat(blob.sha256) is None


@pytest.mark.parametrize("name", ["", "..", "../" * 21 + "a", "/etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_what_is_no_hash_reaches_no_store(rig, name):
    with pytest.raises(ValueError, match="SHA-256"):
        Blob(name, 1)
    for use in (rig.store.stat, rig.store.delete):
        with pytest.raises(ValueError, match="SHA-256"):
            use(name)


@pytest.mark.parametrize("size", [5, CHUNK_BYTES])
def test_damage_in_a_small_blob_is_found_before_a_reply_could_begin(rig, size):
    blob = rig.store.put([b"r" * size], MIB)
    rig.spoil(blob.sha256, b"w" * size)
    with pytest.raises(BlobDamaged, match="other bytes"):
        rig.reader.open(blob)


def test_a_large_damaged_blob_never_arrives_complete(rig):
    blob = rig.store.put([SEVERAL_PIECES], MIB)
    rig.spoil(blob.sha256, SEVERAL_PIECES[:-1] + bytes([SEVERAL_PIECES[-1] ^ 1]))
    pieces = []
    with rig.reader.open(blob) as content, pytest.raises(BlobDamaged, match=blob.sha256):
        pieces.extend(content)
    arrived = b"".join(pieces)
    assert 0 < len(arrived) < blob.size
    assert SEVERAL_PIECES.startswith(arrived)


@pytest.mark.parametrize("found", [b"", b"short", b"right and more"])
def test_another_size_is_refused_before_the_first_byte_even_of_a_part(rig, found):
    blob = rig.store.put([b"right size"], MIB)
    rig.spoil(blob.sha256, found)
    for offset, length in [(0, None), (0, 2), (8, 2)]:
        with pytest.raises(BlobDamaged):
            rig.reader.open(blob, offset, length)


def test_storing_it_again_heals_a_damaged_blob(rig):
    blob = rig.store.put([b"right"], MIB)
    rig.spoil(blob.sha256, b"wrong")
    rig.store.put([b"right"], MIB)
    assert read(rig.reader, blob) == b"right"


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (1, 3), (0, None), (5, None), (9, 1), (10, 0), (10, None), (0, 0), (0, 10)],
)
def test_a_part(rig, offset, length):
    data = b"0123456789"
    blob = rig.store.put([data], MIB)
    end = len(data) if length is None else offset + length
    assert read(rig.reader, blob, offset, length) == data[offset:end]


def test_a_part_of_several_pieces(rig):
    blob = rig.store.put([SEVERAL_PIECES], MIB)
    assert read(rig.reader, blob, 5, 2 * CHUNK_BYTES) == SEVERAL_PIECES[5 : 5 + 2 * CHUNK_BYTES]


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, 11), (11, None), (5, 6), (0, -1)])
def test_a_part_that_is_not_there_is_the_callers_mistake(rig, offset, length):
    blob = rig.store.put([b"0123456789"], MIB)
    with pytest.raises(ValueError, match=r"no .* bytes at"):
        rig.reader.open(blob, offset, length)


def test_a_blob_without_records_is_deleted_unless_it_is_young(rig):
    blob = rig.store.put([b"shared"], MIB)
    assert rig.store.delete(blob.sha256) is False
    assert read(rig.reader, blob) == b"shared"
    assert rig.store.delete(blob.sha256, grace_s=0) is True
    assert rig.everything() == []
    assert rig.store.delete(blob.sha256, grace_s=0) is True


def test_a_reader_that_has_begun_gets_the_rest_of_a_deleted_blob(rig):
    blob = rig.store.put([SEVERAL_PIECES], MIB)
    with rig.reader.open(blob) as content:
        first = next(content)
        rig.store.delete(blob.sha256, grace_s=0)
        assert first + b"".join(content) == SEVERAL_PIECES


def test_a_sweep_removes_what_no_record_names_and_nothing_young(rig):
    kept, lost = rig.store.put([b"kept"], MIB), rig.store.put([b"lost"], MIB)
    time.sleep(5)
    young = rig.store.put([b"young"], MIB)
    asked = []

    def in_use(hashes):
        asked.extend(hashes)
        return {kept.sha256}

    assert [stored.blob for stored in orphans(rig.reader, in_use, age_s=4)] == [lost]
    swept = sweep(rig.store, in_use, age_s=4)
    assert (swept.blobs, swept.size) == (1, 4)
    assert rig.everything() == sorted([kept.sha256, young.sha256])
    assert young.sha256 not in asked


def test_listing_gives_every_blob_and_nothing_else(rig):
    stored = {rig.store.put([b"%d" % n], MIB) for n in range(30)}
    unfinished = rig.store.writer(MIB)
    unfinished.write(b"not yet")
    assert {found.blob for found in rig.reader.stored()} == stored
    unfinished.abort()


def test_nothing_stays_open(rig):
    blob = rig.store.put([SEVERAL_PIECES], MIB)
    read(rig.reader, blob)
    before = descriptors()
    for _ in range(5):
        with rig.reader.open(blob) as content:
            next(content)
        unread = rig.reader.open(blob)
        unread.close()
        unread.close()
        assert list(unread) == []
        del unread
        rig.reader.open(blob)
        read(rig.reader, blob)
        rig.store.put([b"x"], MIB)
        with pytest.raises(BlobTooLarge):
            rig.store.put([b"xx"], 1)
        rig.store.stat(blob.sha256)
        list(rig.store.stored())
        rig.store.delete("0" * 64)
        rig.store.clean()
        rig.store.check()
    assert descriptors() <= before + (0 if rig.kind == "local" else 2)  # connections kept for the next request


def test_a_store_that_works_says_so(rig):
    rig.store.check()
    rig.reader.check()

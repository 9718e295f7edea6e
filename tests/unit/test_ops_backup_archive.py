"""The archive of a backup: written, read again, and refused where it is not what was written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from config.version import VERSION
from ops.backup.archive import ABOUT, DATABASE, FORMAT, SUMS, ArchiveWriter, BackupError, read_archive
from ops.backup.load import _accept
from ops.backup.places import is_newer, known_revisions, of_environment
from records.sql.migrate import HEAD

BLOB_TEXT = b"contents " * 200
BLOB = f"storage/uploads/{hashlib.sha256(BLOB_TEXT).hexdigest()}"
DESCRIPTION = {"format": FORMAT, "version": "0.1.0", "revision": "0004", "created_at": "2026-11-28T12:00:00+00:00"}


def written(members=None, about=None):
    """An archive as it is made, of these members."""
    out = io.BytesIO()
    archive = ArchiveWriter(out)
    archive.add_text(ABOUT, json.dumps(DESCRIPTION | (about or {})).encode())
    for name, text in members if members is not None else [(DATABASE, b"records"), (BLOB, BLOB_TEXT)]:
        archive.add_text(name, text)
    archive.close()
    return out.getvalue()


def read(data, accept=lambda _: None):
    found = {}

    def place(member):
        found[member.name] = b"".join(member.pieces())

    about = read_archive(io.BytesIO(data), accept, place)
    return about, found


def tar(*members, fmt=tarfile.PAX_FORMAT):
    """An archive made with tarfile, after a right description: `(name, fields of TarInfo, bytes)`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as made:
        for name, fields, text in ((ABOUT, {}, json.dumps(DESCRIPTION).encode()), *members):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            for key, value in fields.items():
                setattr(info, key, value)
            made.addfile(info, io.BytesIO(text))
    return out.getvalue()


def test_what_is_written_is_read_again_and_tar_reads_it_too():
    data = written()
    about, found = read(data)
    assert (about.version, about.revision) == ("0.1.0", "0004")
    assert found == {DATABASE: b"records", BLOB: BLOB_TEXT}
    with tarfile.open(fileobj=io.BytesIO(data)) as listed:
        assert listed.getnames() == [ABOUT, DATABASE, BLOB, SUMS]
        assert {member.mode for member in listed} == {0o600}


def test_an_archive_that_ends_early_is_refused_wherever_it_ends():
    data = written()
    end = len(data) - 2 * tarfile.BLOCKSIZE
    for length in {*range(0, end, 251), 1, 511, 512, 513, end - 1}:
        with pytest.raises(BackupError, match=r"damaged|no backup"):
            read(data[:length])


def test_a_byte_that_differs_is_noticed_wherever_it_is():
    data = written()
    sizes = [512 + -(-len(text) // 512) * 512 for text in (json.dumps(DESCRIPTION).encode(), b"records", BLOB_TEXT)]
    starts = [0, sizes[0], sizes[0] + sizes[1]]
    places = [start + offset for start in starts for offset in (0, 60, 124, 150, 156, 512, 515)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 0x55
        with pytest.raises(BackupError):
            read(bytes(changed))


@pytest.mark.parametrize(
    "name",
    [
        "../etc/passwd",
        "/etc/passwd",
        "storage/uploads/../../../etc/passwd",
        "api/../api/instance",
        "./db/runyard.sqlite",
        "db/runyard.sqlite/",
        "db/runyard.sqlite-wal",
        "storage/uploads/" + "a" * 63,
        "storage/uploads/" + "A" * 64,
        f"storage/else/{'a' * 64}",
        f"{BLOB}\n",
        "settings/../../etc/cron.d/x",
        "settings/evil.service",
        "api/metrics/counter.db",
        "x" * 99,
        "api/instance\x00../x",
        "",
    ],
)
def test_names_that_no_backup_has_are_refused(name):
    for fmt in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with pytest.raises(BackupError):
            read(tar((name, {}, b"x"), fmt=fmt))


@pytest.mark.parametrize(
    "fields",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/shadow"},
        {"type": tarfile.LNKTYPE, "linkname": "format.json"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"type": tarfile.BLKTYPE, "devmajor": 8},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.DIRTYPE},
        {"type": tarfile.CONTTYPE},
        {"type": tarfile.GNUTYPE_SPARSE},
        {"type": b"Z"},
        {"type": tarfile.REGTYPE, "linkname": "/etc/shadow"},
    ],
    ids=lambda fields: str(fields.get("type")) + fields.get("linkname", ""),
)
def test_links_devices_and_other_kinds_are_refused(fields):
    with pytest.raises(BackupError, match=r"regular file|no backup"):
        read(tar(("api/instance", fields, b"")))


def test_headers_that_extend_others_are_refused():
    long_name = tar(("storage/uploads/" + "a" * 200, {}, b"x"), fmt=tarfile.GNU_FORMAT)
    pax = tar(("api/instance", {"pax_headers": {"path": "../../etc/passwd", "size": "99999999999"}}, b"x"))
    for data in (long_name, pax):
        with pytest.raises(BackupError, match="regular file"):
            read(data)


def test_a_member_that_is_there_twice_is_refused():
    with pytest.raises(BackupError, match="twice"):
        read(written([(DATABASE, b"one"), (DATABASE, b"one")]))


def test_a_blob_must_have_the_contents_that_its_name_says():
    with pytest.raises(BackupError, match="does not match the hash in its name"):
        read(written([(DATABASE, b"records"), (BLOB, b"others")]))


def test_an_archive_without_records_is_refused():
    with pytest.raises(BackupError, match="no records"):
        read(written([(BLOB, BLOB_TEXT)]))


@pytest.mark.parametrize("name", ["api/signing.key", "api/instance", "settings/environment"])
def test_a_small_file_that_is_large_is_refused_before_it_is_read(name):
    info = tarfile.TarInfo(name)
    info.size = 10**11
    data = written()[: 2 * tarfile.BLOCKSIZE] + info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(BackupError, match="longer than"):
        read(data)


def test_sums_that_do_not_match_are_refused():
    def replaced(text):
        out = io.BytesIO()
        archive = ArchiveWriter(out)
        archive.add_text(ABOUT, json.dumps(DESCRIPTION).encode())
        archive.add_text(DATABASE, b"records")
        archive._write(SUMS, io.BytesIO(text), len(text))
        return out.getvalue()

    for text in (b"{}", b"[]", b"", b"null", b'{"format.json": [1, "x"]}', b"[" * 100_000):
        with pytest.raises(BackupError, match=r"damaged|no backup"):
            read(replaced(text))


@pytest.mark.parametrize(
    "about",
    [
        {"format": 0},
        {"format": "1"},
        {"format": True},
        {"format": None},
        {"version": 1},
        {"version": "x" * 41},
        {"revision": "é"},
        {"created_at": None},
    ],
)
def test_a_description_that_is_none_is_refused(about):
    with pytest.raises(BackupError, match="no backup"):
        read(written(about=about))


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 1024, b"SQLite format 3\0" * 64, b"\x1f\x8b" + b"x" * 2000])
def test_another_kind_of_file_is_refused(data):
    with pytest.raises(BackupError, match=r"no backup|damaged"):
        read(data)


def test_a_newer_format_is_refused_with_its_version():
    with pytest.raises(BackupError, match=r"format 2, of version '9\.1\.0'.*install that version"):
        read(written(about={"format": 2, "version": "9.1.0"}))


@pytest.mark.parametrize("about", [{"version": "999.0.0"}, {"revision": "9999"}, {"revision": ""}])
def test_a_newer_version_is_refused_before_anything_is_unpacked(about):
    placed = []
    with pytest.raises(BackupError, match=r"install that version or a newer one"):
        read_archive(io.BytesIO(written(about=about)), _accept, placed.append)
    assert placed == []


def test_this_version_and_older_ones_are_accepted():
    for about in ({"version": VERSION, "revision": HEAD}, {"version": "0.0.9", "revision": "0001"}):
        assert read(written(about=about), _accept)[1]
    assert known_revisions()[-1] == HEAD


def test_versions_are_compared_by_their_numbers():
    assert is_newer("0.10.0", "0.9.9")
    assert not is_newer("0.9.9", "0.10.0")
    assert not is_newer("0.1.0", "0.1.0")


def test_a_source_that_becomes_shorter_is_noticed():
    with pytest.raises(BackupError, match="shorter"):
        ArchiveWriter(io.BytesIO()).add("db/runyard.sqlite", io.BytesIO(b"123"), 4)


def test_postgresql_is_refused_with_the_commands_to_use(monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@host/db")
    with pytest.raises(BackupError, match="pg_dump") as refused:
        of_environment()
    assert "secret" not in str(refused.value)


def test_the_paths_are_those_of_the_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    for name in ("DATABASE_URL", "STORAGE_DIR", "STORAGE_URL", "UID_BASE"):
        monkeypatch.delenv(name, raising=False)
    paths = of_environment()
    assert (paths.database, paths.storage) == (tmp_path / "db/runyard.sqlite", tmp_path / "storage")
    assert (paths.in_s3, paths.api_uid) == (False, 0x7000_0000)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/a%20b/x.sqlite")
    monkeypatch.setenv("STORAGE_DIR", str(tmp_path / "blobs"))
    monkeypatch.setenv("STORAGE_URL", "s3://bucket")
    paths = of_environment()
    assert (paths.database, paths.storage) == (tmp_path / "a b/x.sqlite", tmp_path / "blobs")
    assert paths.in_s3
    monkeypatch.setenv("UID_BASE", "many")
    with pytest.raises(BackupError, match="UID_BASE"):
        of_environment()

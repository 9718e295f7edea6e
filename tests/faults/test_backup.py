"""Backup, restore and upgrade: the whole state comes back, and what is no backup changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from ops.backup.archive import ABOUT, DATABASE, FORMAT, ArchiveWriter, BackupError
from ops.backup.load import restore
from ops.backup.places import StatePaths
from ops.backup.save import save
from ops.state import StatePlace
from records import migrate
from records.errors import RecordsUnavailable
from records.sql.copies import snapshot
from tests.support.own_service import OwnService
from tests.support.service import make
from tests.support.state_history import LASTING, check_history, link_of_kept_key, make_history, unpack

DATA = Path(__file__).parent / "data"
UIDS = 0x7B00_0000
BLOB_TEXT = b"contents " * 5000
SHA256 = hashlib.sha256(BLOB_TEXT).hexdigest()
KEY = "k" * 64 + "\n"

pytestmark = pytest.mark.timeout(300)


def target(state, name, **variables):
    """`make backup` or `make restore` for a state directory."""
    return make(name, check=False, STATE_DIR=str(state), UID_BASE=str(UIDS), **variables)


def parts(state):
    return [state / "db", state / "api", state / "storage"]


def test_a_backup_made_while_it_serves_brings_everything_back(service, state, tmp_path):
    """With runs being made meanwhile: those that had ended before are complete in it."""
    own = OwnService(service, state, UIDS, **LASTING)
    running = own.up()
    file = tmp_path / "backup.tar"
    try:
        history = make_history(running)
        link = link_of_kept_key(state, next(iter(history["files"])))
        stop, others = threading.Event(), []

        def load():
            while not stop.is_set():
                others.append(running.run("bash", "echo more > outputs/more; seq 100000"))

        thread = threading.Thread(target=load)
        thread.start()
        try:
            made = target(state, "backup", FILE=str(file))
        finally:
            stop.set()
            thread.join()
        assert made.returncode == 0, made.stdout
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "not in it" not in made.stdout
        refused = target(state, "restore", FILE=str(file), REPLACE="1")
        assert refused.returncode != 0
        assert "a service runs" in refused.stdout
        own.down()
        # As on another machine: nothing of the state is there.
        for part in parts(state):
            shutil.rmtree(part)
        done = target(state, "restore", FILE=str(file))
        assert done.returncode == 0, done.stdout
        check_history(own.up(), history, link)
        assert others
        kept = running.get("/v1/runs?limit=100").body["data"]
        # One that ran while the records were copied has been ended by the restored service.
        assert {run["status"] for run in kept} <= {"succeeded", "error"}, kept
        assert running.run("python", "print(1)")["stdout"] == "1\n"
    finally:
        own.down()


@pytest.mark.parametrize("packed", sorted(DATA.glob("state-*.tar.xz")), ids=lambda path: path.name[6:-7])
def test_a_state_directory_of_an_earlier_version_is_upgraded(service, state, packed):
    history = unpack(packed, state, UIDS)
    link = link_of_kept_key(state, next(iter(history["files"])))
    # With a signing key set for the first time: links that the generated one has signed stay valid.
    own = OwnService(service, state, UIDS, SIGNING_KEY="n" * 48, **LASTING)
    try:
        upgraded = own.up()
        check_history(upgraded, history, link)
        run = upgraded.post("/v1/runs", {"language": "bash", "code": "echo new"}, token=history["key"])
        assert run.body["stdout"] == "new\n"
    finally:
        own.down()


def test_a_packed_state_is_there_and_small():
    found = list(DATA.glob("state-*.tar.xz"))
    assert found
    assert sum(path.stat().st_size for path in found) <= 1024 * 1024


# -- without a service -----------------------------------------------------------------------------


def make_state(folder):
    """A small state: records that name one blob, the blob, a key and an instance."""
    folder.mkdir(exist_ok=True)
    paths = StatePaths(StatePlace(folder), folder / "db/runyard.sqlite", folder / "storage", False, UIDS)
    migrate(f"sqlite:///{paths.database}")
    with sqlite3.connect(paths.database) as records:
        row = ("file_1", "key", "upload", "a.txt", "a.txt", len(BLOB_TEXT), SHA256, "text/plain", 1)
        records.execute(
            "INSERT INTO files (id, owner, area, name, path, size, sha256, content_type, created_at_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
    records.close()
    blob = paths.storage / f"uploads/blobs/{SHA256[:2]}/{SHA256}"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(BLOB_TEXT)
    paths.home.mkdir()
    (paths.home / "signing.key").write_text(KEY)
    (paths.home / "instance").write_text("inst_" + "a" * 24 + "\n")
    for part in parts(folder):
        for path in (part, *part.rglob("*")):
            os.chown(path, UIDS, UIDS)
    return paths


def empty_place(folder):
    folder.mkdir(mode=0o755)
    return StatePaths(StatePlace(folder), folder / "db/runyard.sqlite", folder / "storage", False, UIDS)


def tree(folder):
    """Everything beneath a folder, with owners, modes and contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        found[str(path.relative_to(folder))] = (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode), data)
    return found


@pytest.fixture
def saved(state):
    """The paths of a state, and a backup of it."""
    paths = make_state(state / "old")
    save(paths, state / "backup.tar")
    return paths, state / "backup.tar"


def test_modes_and_owners_are_those_that_the_service_gives(state, saved):
    paths = empty_place(state / "new")
    restore(paths, saved[1], replace=False)
    found = {name: about[:3] for name, about in tree(state / "new").items()}
    assert found["db"] == found["api"] == (UIDS, UIDS, 0o700)
    assert found["db/runyard.sqlite"] == found["api/signing.key"] == (UIDS, UIDS, 0o600)
    assert found["storage/uploads"] == found["storage/uploads/blobs"] == (UIDS, UIDS, 0o700)
    assert found[f"storage/uploads/blobs/{SHA256[:2]}/{SHA256}"] == (UIDS, UIDS, 0o600)
    assert found["storage/artifacts"] == (0, UIDS, 0o2750)
    assert (state / "new/api/signing.key").read_text() == KEY
    assert not [name for name in found if "restoring" in name or "replaced" in name]


def test_a_state_that_is_there_is_replaced_only_when_asked_and_kept(state, saved):
    old, file = saved
    (old.home / "signing.key").write_text("x" * 64)
    before = tree(state / "old")
    with pytest.raises(BackupError, match="REPLACE=1"):
        restore(old, file, replace=False)
    assert tree(state / "old") == before
    said = restore(old, file, replace=True)
    assert (old.home / "signing.key").read_text() == KEY
    (kept,) = old.home.glob("replaced-*/signing.key")
    assert kept.read_text() == "x" * 64
    assert str(kept.parent) in said


def test_a_blob_that_is_damaged_or_gone_is_left_out_and_told(state, saved):
    paths, _ = saved
    blob = paths.storage / f"uploads/blobs/{SHA256[:2]}/{SHA256}"
    blob.write_bytes(b"x" * len(BLOB_TEXT))
    assert "1 contents" in save(paths, state / "damaged.tar")
    blob.unlink()
    blob.symlink_to("/etc/shadow")
    assert "1 contents" in save(paths, state / "link.tar")
    assert b"root:" not in (state / "link.tar").read_bytes()
    assert "contents" not in restore(empty_place(state / "new"), state / "link.tar", replace=False)


def test_an_existing_file_is_never_overwritten(state, saved):
    paths, file = saved
    before = file.read_bytes()
    with pytest.raises(BackupError, match="exists"):
        save(paths, file)
    assert file.read_bytes() == before
    (state / "link").symlink_to(state / "nowhere")
    with pytest.raises(BackupError, match="exists"):
        save(paths, state / "link")
    with pytest.raises(BackupError, match="No such file"):
        save(paths, state / "none/backup.tar")
    with pytest.raises(BackupError, match="nothing to save"):
        save(empty_place(state / "empty"), state / "x.tar")
    assert sorted(path.name for path in state.iterdir()) == ["backup.tar", "empty", "link", "old"]


@pytest.fixture
def small_disk(state):
    path = state / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k,mode=0755", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_leaves_no_half_backup(saved, small_disk):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(100 * 1024))
    with pytest.raises(BackupError, match="No space left"):
        save(saved[0], small_disk / "backup.tar")
    assert list(small_disk.iterdir()) == [filler]


def test_a_full_disk_leaves_no_half_state(saved, small_disk):
    (small_disk / "filler").write_bytes(bytes(100 * 1024))
    paths = StatePaths(
        StatePlace(small_disk), small_disk / "db/runyard.sqlite", small_disk / "storage", False, UIDS
    )
    with pytest.raises(BackupError, match=r"No space left.*nothing was changed"):
        restore(paths, saved[1], replace=False)
    assert [name for name in tree(small_disk) if not (small_disk / name).is_dir()] == ["filler"]
    assert not list(small_disk.rglob(".restoring*"))


def archive(path, members, **about):
    description = {"format": FORMAT, "version": "0.1.0", "revision": "0004", "created_at": "2026"} | about
    with path.open("wb") as out:
        made = ArchiveWriter(out)
        made.add_text(ABOUT, json.dumps(description).encode())
        for name, text in members:
            made.add(name, io.BytesIO(text), len(text))
        made.close()
    return path


def hostile_database(path, statement):
    migrate(f"sqlite:///{path}")
    with sqlite3.connect(path) as records:
        records.execute(statement)
    records.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    records.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    "kind", ["cut", "bytes", "trigger", "view", "revision", "no revision", "no database", "page"]
)
def test_what_is_no_backup_changes_nothing(state, saved, kind):
    old, file = saved
    data = bytearray(file.read_bytes())
    if kind == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif kind == "bytes":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif kind == "no database":
        archive(file, [(DATABASE, b"x" * 4096)])
    elif kind == "page":
        text = bytearray(hostile_database(state / "h.sqlite", "SELECT 1"))
        text[4096:8192] = b"\xff" * 4096
        archive(file, [(DATABASE, bytes(text))])
    else:
        statement = {
            "trigger": "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM keys; END",
            "view": "CREATE VIEW v AS SELECT * FROM keys",
            "revision": "UPDATE alembic_version SET version_num = '9999'",
            "no revision": "DROP TABLE alembic_version",
        }[kind]
        archive(file, [(DATABASE, hostile_database(state / "h.sqlite", statement))])
    before = tree(state / "old")
    with pytest.raises(BackupError, match="damaged"):
        restore(old, file, replace=True)
    assert tree(state / "old") == before


def test_a_newer_backup_changes_nothing(state, saved):
    old, file = saved
    before = tree(state / "old")
    for about in ({"version": "99.0"}, {"format": 9}, {"revision": "0999"}):
        with pytest.raises(BackupError, match="install that version"):
            restore(old, archive(file, [(DATABASE, b"x")], **about), replace=True)
    assert tree(state / "old") == before


def test_a_fifo_a_directory_and_nothing_are_refused(state):
    paths = empty_place(state / "new")
    os.mkfifo(state / "fifo")
    for name in ("fifo", "new", "none"):
        with pytest.raises(BackupError, match=r"regular file|No such file"):
            restore(paths, state / name, replace=False)


def test_what_a_killed_restore_has_left_is_removed(state, saved):
    paths = empty_place(state / "new")
    (state / "new/.restoring-0123/storage").mkdir(parents=True)
    restore(paths, saved[1], replace=False)
    assert not list((state / "new").rglob(".restoring*"))


def test_the_copy_of_the_records_is_of_one_moment_and_one_at_a_time(saved):
    paths, _ = saved
    with snapshot(paths.database) as copy:
        with sqlite3.connect(paths.database, timeout=0) as records:
            records.execute("DELETE FROM files")  # no writer is delayed
        records.close()
        with sqlite3.connect(copy) as records:
            assert records.execute("SELECT count(*) FROM files").fetchone() == (1,)
        records.close()
        with pytest.raises(RecordsUnavailable, match="another backup"), snapshot(paths.database):
            pass
        assert copy.exists()  # the one that was refused has removed nothing
    assert [path.name for path in paths.database.parent.iterdir() if "backup" in path.name] == [
        ".backup.sqlite.lock"
    ]


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_make_says_what_is_missing(state, name):
    done = target(state, name)
    assert done.returncode != 0
    assert f"make {name} FILE=" in done.stdout
    done = target(state, name, FILE=str(state / "x.tar"))
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    done = target(state, name, FILE=str(state / "x.tar"), DATABASE_URL="postgresql://u:secret@h/d")
    assert "pg_dump" in done.stdout
    assert "secret" not in done.stdout

"""Directories that others can write, files that are no files, disks that are full, writers that are killed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from storage import CHUNK_BYTES, Blob, beneath
from storage.errors import (
    BlobDamaged,
    BlobMissing,
    StorageError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)
from storage.layout import make_areas
from storage.local import LocalReader, LocalStore

MIB = 1024 * 1024
REPO = Path(__file__).resolve().parents[2]
API_UID, STRANGER_UID = 0x7000_0000, 0x7000_0001
DATA = b"some bytes"
BLOB = Blob(hashlib.sha256(DATA).hexdigest(), len(DATA))


@pytest.fixture(scope="module", autouse=True)
def _root():
    if os.geteuid() != 0:
        pytest.fail("these tests change owners and mount, and need root")


@pytest.fixture
def areas(tmp_path):
    """Both areas as `make up` makes them."""
    let_pass(tmp_path)
    make_areas(tmp_path / "storage", API_UID)
    return tmp_path / "storage"


def let_pass(folder):
    """pytest's own directories are closed to other accounts."""
    for above in (folder, *folder.parents[:2]):
        above.chmod(above.stat().st_mode | 0o011)


def as_user(uid, do):
    """What `do` returns or raises (as text), in a process of that account."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            said = repr(do())
        except (OSError, StorageError) as e:
            said = type(e).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def read(reader, blob):
    with reader.open(blob) as content:
        return b"".join(content)


def test_each_area_is_written_by_one_party_and_read_by_both(areas):
    uploads, artifacts = areas / "uploads", areas / "artifacts"
    assert as_user(API_UID, lambda: LocalStore(uploads).put([DATA], MIB) == BLOB) == "True"
    assert LocalStore(artifacts, group_reads=True).put([DATA], MIB) == BLOB
    assert read(LocalReader(uploads), BLOB) == DATA
    assert as_user(API_UID, lambda: read(LocalReader(artifacts), BLOB)) == repr(DATA)
    assert as_user(API_UID, lambda: [found.blob for found in LocalReader(artifacts).stored()] == [BLOB]) == "True"


def test_the_party_that_reads_cannot_write_and_a_stranger_can_do_neither(areas):
    uploads, artifacts = areas / "uploads", areas / "artifacts"
    LocalStore(artifacts, group_reads=True).put([DATA], MIB)
    as_user(API_UID, lambda: LocalStore(uploads).put([DATA], MIB))
    with pytest.raises(StorageMisconfigured):
        LocalStore(uploads)  # root does not work where api can write
    assert as_user(API_UID, lambda: LocalStore(artifacts)) == "StorageMisconfigured"
    for attempt in (
        (artifacts / "blobs" / "new").touch,
        lambda: (artifacts / "blobs" / BLOB.sha256[:2] / BLOB.sha256).write_bytes(b"x"),
        (artifacts / "blobs" / BLOB.sha256[:2] / BLOB.sha256).unlink,
        partial(os.listdir, artifacts / "tmp"),
        lambda: uploads.rename(areas / "mine"),
    ):
        assert as_user(API_UID, attempt) == "PermissionError"
    for area in (uploads, artifacts):
        assert as_user(STRANGER_UID, lambda area=area: read(LocalReader(area), BLOB)) == "StorageUnavailable"


def test_owners_and_modes_whatever_the_umask(areas):
    before = os.umask(0o077)
    try:
        LocalStore(areas / "artifacts", group_reads=True).put([DATA], MIB)
    finally:
        os.umask(before)
    found = {}
    for path in [areas, *areas.rglob("*")]:
        status = path.stat()
        found[str(path.relative_to(areas))] = (oct(status.st_mode & 0o7777), status.st_uid, status.st_gid)
    folder = f"artifacts/blobs/{BLOB.sha256[:2]}"
    assert found["."] == ("0o755", 0, 0)
    assert found["uploads"] == ("0o700", API_UID, API_UID)
    assert found["artifacts"] == found["artifacts/blobs"] == found[folder] == ("0o2750", 0, API_UID)
    assert found["artifacts/tmp"] == ("0o2700", 0, API_UID)
    assert found[f"{folder}/{BLOB.sha256}"] == ("0o640", 0, API_UID)


def test_areas_are_made_again_without_harm_and_mended(areas):
    store = LocalStore(areas / "artifacts", group_reads=True)
    store.put([DATA], MIB)
    (areas / "artifacts").chmod(0o777)
    (areas / "artifacts" / "blobs" / "00").rmdir()
    make_areas(areas, API_UID)
    assert read(LocalStore(areas / "artifacts", group_reads=True), BLOB) == DATA
    assert (areas / "artifacts" / "blobs" / "00").is_dir()


def test_a_place_that_another_account_can_replace_is_refused(tmp_path):
    let_pass(tmp_path)
    open_to_all, a_link = tmp_path / "open", tmp_path / "linked"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    os.chown(strangers, STRANGER_UID, STRANGER_UID)
    a_link.mkdir()
    (a_link / "uploads").symlink_to(strangers)
    beneath_open = open_to_all / "storage"
    for place in (open_to_all, strangers, a_link, beneath_open, Path("relative")):
        with pytest.raises(StorageMisconfigured, match="STORAGE_DIR"):
            make_areas(place, API_UID)
    assert strangers.stat().st_mode & 0o777 == 0o755
    assert not Path("relative").exists()


def test_a_place_that_api_cannot_reach_is_refused_with_the_remedy(tmp_path):
    let_pass(tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StorageMisconfigured, match=rf"STORAGE_DIR: {closed} is closed .*chmod o\+x"):
        make_areas(closed / "storage", API_UID)


@pytest.fixture(params=["openat2", "step by step"])
def way(request, monkeypatch):
    """Both ways of opening; a kernel of today has the first, and then the second is not taken."""
    taken = "_openat2" if request.param == "step by step" else "open_step_by_step"
    monkeypatch.setattr(beneath, taken, lambda path, dir_fd: None)


def plant(area, what, target):
    path = area / "blobs" / BLOB.sha256[:2] / BLOB.sha256
    path.parent.rmdir()
    if what == "a linked folder":
        path.parent.symlink_to(target.parent)
        (target.parent / BLOB.sha256).write_bytes(DATA)
        return
    path.parent.mkdir()
    if what == "a link":
        path.symlink_to(target)
    elif what == "a magic link":
        path.symlink_to("/proc/self/exe")
    elif what == "a fifo":
        os.mkfifo(path)
    elif what == "a device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    elif what == "a socket":
        os.mknod(path, 0o600 | 0o140000)
    elif what == "a directory":
        path.mkdir()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "what", ["a link", "a linked folder", "a magic link", "a fifo", "a device", "a socket", "a directory"]
)
def test_a_reader_is_never_led_out_nor_held_up(local, tmp_path, way, what):
    target = tmp_path / "secret" / "shadow"
    target.parent.mkdir()
    target.write_bytes(DATA)
    plant(local.area, what, target)
    before = len(os.listdir("/proc/self/fd"))
    for use in (lambda: local.reader.open(BLOB), lambda: local.reader.stat(BLOB.sha256)):
        with pytest.raises(BlobDamaged, match="is not a file"):
            use()
    assert list(local.reader.stored()) == []
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("path", ["../secret", "blobs/../../secret", "/etc/passwd", "..", "."])
def test_nothing_outside_is_opened(tmp_path, way, path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "area" / "blobs").mkdir(parents=True)
    area = os.open(tmp_path / "area", os.O_RDONLY)
    with pytest.raises(OSError, match=r".") as refused:
        os.close(beneath.open_file(path, area))
    assert refused.value.errno in {errno.EXDEV, errno.EINVAL, errno.ENOENT}
    os.close(area)


def test_a_blob_that_changes_while_it_is_read_is_noticed(local):
    data = os.urandom(4 * CHUNK_BYTES)
    blob = local.store.put([data], MIB * 2)
    for change in (lambda f: f.truncate(CHUNK_BYTES * 2), lambda f: f.write(b"\0" * len(data))):
        local.store.put([data], MIB * 2)
        with local.reader.open(blob) as content:
            next(content)
            with local.path(blob.sha256).open("r+b") as file:
                change(file)
            with pytest.raises(BlobDamaged):
                list(content)


def test_a_part_that_ends_early_is_noticed(local):
    blob = local.store.put([bytes(4 * CHUNK_BYTES)], MIB * 2)
    with local.reader.open(blob, 1) as content:
        next(content)
        os.truncate(local.path(blob.sha256), CHUNK_BYTES * 3)
        with pytest.raises(BlobDamaged, match="ends before its size"):
            list(content)


KILLED = """
import os, sys, time
from pathlib import Path
from storage.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
writer = store.writer(1 << 20)
writer.write(b"some bytes")
def stop(*a, **k):
    print("here", flush=True)
    time.sleep(60)
os.rename = stop
writer.commit()
"""


def test_a_writer_killed_before_the_rename_leaves_nothing_visible(local):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(local.area)], cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "here\n"
    (unfinished,) = local.everything()
    assert local.store.clean() == 0  # its writer lives
    assert local.everything() == [unfinished]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with pytest.raises(BlobMissing):
        local.reader.open(BLOB)
    assert list(local.reader.stored()) == []
    assert local.store.clean() == 1
    assert local.everything() == []


def test_cleaning_never_takes_a_living_writers_file(local):
    stop = threading.Event()

    def clean():
        while not stop.is_set():
            local.store.clean()

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for n in range(300):
            blob = local.store.put([b"%d" % n], MIB)
            assert read(local.reader, blob) == b"%d" % n
    finally:
        stop.set()
        cleaner.join()


def test_a_blob_stored_while_it_is_being_deleted_is_there_afterwards(local, monkeypatch):
    local.store.put([DATA], MIB)
    os.utime(local.path(BLOB.sha256), (0, 0))
    storing = threading.Thread(target=lambda: local.store.put([DATA], MIB))
    unlink = os.unlink

    def stored_meanwhile(*arguments, **named):
        """It was found old; now somebody stores it, and has to wait."""
        storing.start()
        storing.join(0.3)
        assert storing.is_alive()
        unlink(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", stored_meanwhile)
        assert local.store.delete(BLOB.sha256) is True
    storing.join()
    assert read(local.reader, BLOB) == DATA


def test_a_file_that_was_cleaned_before_its_writer_could_lock_it_is_made_again(local, monkeypatch):
    lock = fcntl.flock
    cleaned = []

    def cleaned_before(fd, kind):
        if not cleaned:
            cleaned.append(0)
            cleaned[0] = local.store.clean()
        lock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", cleaned_before)
    assert local.store.put([DATA], MIB) == BLOB
    assert cleaned == [1]
    assert read(local.reader, BLOB) == DATA


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB and few inodes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=300", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def disk_inodes(disk):
    """How many are in use."""
    room = os.statvfs(disk)
    return room.f_files - room.f_favail


def fill(path):
    """Take all the room that is left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass


def test_a_full_disk_says_so_and_leaves_nothing_and_later_works_again(small_disk):
    (small_disk / "area").mkdir(mode=0o700)
    store = LocalStore(small_disk / "area")
    kept = store.put([b"k" * 1000], MIB)
    with pytest.raises(StorageFull, match=r"^storage is full$"):
        store.put([b"x" * MIB for _ in range(4)], 100 * MIB)
    assert os.listdir(small_disk / "area" / "tmp") == []
    filler = small_disk / "filler"
    fill(filler)
    with pytest.raises(StorageFull):
        store.put([b"even a little"], MIB)
    with pytest.raises(StorageFull):
        store.check()
    assert [found.blob for found in store.stored()] == [kept]
    assert read(store, kept) == b"k" * 1000
    filler.unlink()
    store.check()
    assert read(store, store.put([DATA], MIB)) == DATA
    store.close()


def test_no_inodes_left_is_full_too(small_disk):
    (small_disk / "area").mkdir(mode=0o700)
    store = LocalStore(small_disk / "area")
    for n in range(300 - disk_inodes(small_disk)):
        (small_disk / str(n)).touch()
    with pytest.raises(StorageFull):
        store.put([DATA], MIB)
    assert os.listdir(small_disk / "area" / "tmp") == []
    with pytest.raises(StorageFull):
        store.check()
    store.close()


@pytest.mark.parametrize("call", ["open", "write", "fchmod", "fsync", "utime", "rename"])
@pytest.mark.parametrize(
    ("number", "error"), [(errno.EIO, StorageUnavailable), (errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull)]
)
def test_whichever_call_fails_nothing_is_left(local, monkeypatch, call, number, error):
    before = len(os.listdir("/proc/self/fd"))

    def fail(*_arguments, **_named):
        raise OSError(number, os.strerror(number), "/secret/path")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(error) as raised:
            local.store.put([DATA], MIB)
    assert type(raised.value) is error
    assert "secret" not in str(raised.value)
    assert local.everything() == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert local.store.put([DATA], MIB) == BLOB


def test_a_failed_last_sync_is_an_error_though_the_blob_may_be_there(local, monkeypatch):
    synced = os.fsync
    calls = []

    def second_fails(fd):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.EIO, "no")
        synced(fd)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(StorageUnavailable):
        local.store.put([DATA], MIB)
    assert os.listdir(local.area / "tmp") == []


def test_an_area_that_is_gone_is_unavailable(local, tmp_path):
    with pytest.raises(StorageUnavailable):
        LocalReader(tmp_path / "nowhere")
    for folder in ("blobs", "tmp"):
        (local.area / folder).rename(tmp_path / folder)
    for use in (
        lambda: local.store.delete(BLOB.sha256),
        local.store.check,
        local.reader.check,
    ):
        with pytest.raises(StorageError):
            use()


def test_opening_a_local_store_does_not_load_boto3():
    script = "import sys, storage.areas, storage.links, storage.download; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

"""`make backup FILE=…`: write the state of a service to one file, whether it runs or not.

The file appears under its name when it is complete and on the disk. Its contents are read by a child that has
become api's account: that account owns the database and the uploads and may read the artifacts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from config.version import VERSION
from ops.backup.archive import ABOUT, BLOB, DATABASE, FORMAT, ArchiveWriter, BackupError
from ops.backup.places import StatePaths, of_environment
from records.errors import RecordsUnavailable
from records.sql.copies import contents, snapshot
from storage import beneath
from storage.layout import ARTIFACTS, BLOBS, UPLOADS

#: The directory of each area that records name.
AREAS = {"upload": UPLOADS, "artifact": ARTIFACTS}


def save(paths: StatePaths, target: Path) -> str:
    """Write a backup to `target`; a sentence about it. Raises BackupError, and leaves no file then."""
    if os.geteuid() != 0:
        raise BackupError("must be run as root")
    if not paths.database.exists():
        raise BackupError(f"there are no records in {paths.database.parent}: nothing to save")
    if os.path.lexists(target):
        raise BackupError(f"{target} exists: remove it or give another name")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise BackupError(f"{target}: {e.strerror}") from e
    try:
        with os.fdopen(out, "wb", buffering=0) as file:
            settings = _settings(paths)
            missing = _in_child(paths, file, settings)
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        # Not by renaming: what has come there meanwhile stays.
        os.link(temporary, target)
    except FileExistsError as e:
        raise BackupError(f"{target} exists: remove it or give another name") from e
    except OSError as e:
        raise BackupError(f"{target}: {e.strerror}") from e
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    _sync_directory(target.parent)
    words = f"{target}: {size} bytes, version {VERSION}"
    if paths.in_s3:
        words += "\nSTORAGE_URL names S3: the contents of files are in the bucket and not in this backup"
    if missing:
        words += f"\n{missing} contents of files that records name are not in it: they have expired, or are damaged"
    return words


def _settings(paths: StatePaths) -> dict[str, bytes]:
    """Return the settings files that are there, which root alone may read."""
    found = {}
    for name, path in paths.settings().items():
        with suppress(FileNotFoundError):
            found[name] = path.read_bytes()
    return found


def _in_child(paths: StatePaths, out: IO[bytes], settings: dict[str, bytes]) -> int:
    """Have a child of api's account write the archive; how many blobs it missed. Raises BackupError."""
    answer_r, answer_w = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(answer_r)
            said = _as_api(paths, out, settings)
            os.write(answer_w, said.encode("utf-8", "replace")[:4000])
        finally:
            os._exit(0)
    os.close(answer_w)
    with os.fdopen(answer_r, "rb") as answer:
        said = answer.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    if not said.isdigit():
        raise BackupError(said.removeprefix("!") or "the process that reads the state was killed")
    return int(said)


def _as_api(paths: StatePaths, out: IO[bytes], settings: dict[str, bytes]) -> str:
    """Become the database's owner for good, and write the archive.

    Returns the number of missing blobs, or after a `!` the sentence to show.
    """
    owner = paths.database.stat()
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    os.umask(0o077)
    try:
        with snapshot(paths.database) as copy:
            return str(_write(paths, copy, out, settings))
    except (BackupError, RecordsUnavailable) as e:
        return f"!{e}"
    except OSError as e:
        return f"!the backup cannot be written: {e.strerror}"


def _write(paths: StatePaths, copy: Path, out: IO[bytes], settings: dict[str, bytes]) -> int:
    revision, names = contents(copy)
    if paths.in_s3:
        names = []
    about = {"format": FORMAT, "version": VERSION, "revision": revision}
    about["created_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    archive = ArchiveWriter(out)
    archive.add_text(ABOUT, json.dumps(about).encode())
    with copy.open("rb") as file:
        archive.add(DATABASE, file, os.fstat(file.fileno()).st_size)
    for name in ("signing.key", "instance"):
        with suppress(FileNotFoundError):
            archive.add_text(f"api/{name}", (paths.home / name).read_bytes())
    for name, text in settings.items():
        archive.add_text(f"settings/{name}", text)
    added = [_add_blob(archive, paths.storage, AREAS.get(area, area), sha256) for area, sha256 in names]
    archive.close()
    return added.count(False)


def _add_blob(archive: ArchiveWriter, storage: Path, area: str, sha256: str) -> bool:
    """Save a blob. Returns False if it is missing or does not match its hash.

    It is read twice: a member cannot be taken back once it is written.
    """
    name = f"storage/{area}/{sha256}"
    if not BLOB.fullmatch(name):
        return False
    try:
        file = _opened(storage, area, sha256)
    except OSError:
        return False
    with file:
        size = os.fstat(file.fileno()).st_size
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            return False
        file.seek(0)
        archive.add(name, file, size)
    return True


def _opened(storage: Path, area: str, sha256: str) -> io.BufferedReader:
    """Open a blob, led astray by no link."""
    folder = os.open(storage, beneath.DIRECTORY)
    try:
        return os.fdopen(beneath.open_file(f"{area}/{BLOBS}/{sha256[:2]}/{sha256}", folder), "rb")
    finally:
        os.close(folder)


def _sync_directory(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def main() -> int:
    """Write a backup. Returns 0 if it is complete."""
    given = os.environ.get("FILE", "")
    if not given:
        print("make backup: name the file to write: make backup FILE=/var/backups/runyard.tar", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(save(of_environment(), Path(given).absolute()))
    except BackupError as e:
        print(f"make backup: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make backup: interrupted; no file was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

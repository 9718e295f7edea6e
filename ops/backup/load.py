"""`make restore FILE=…`: put a backup in the place of a service's state, while no service runs.

Everything is unpacked next to its target and checked first. Then directories are renamed: the previous state is
kept, with the time in its name, and is restored if a step fails.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from config.version import VERSION
from ops.backup.archive import BLOB, DATABASE, BackupError, BackupInfo, Member, read_archive
from ops.backup.places import StatePaths, is_newer, known_revisions, of_environment
from ops.installed import runs
from ops.state import processes, service_lock
from records.sql.copies import LOCK, SNAPSHOT, SUFFIXES, is_intact
from storage.layout import ARTIFACTS, BLOBS, PRIVATE_DIRECTORY, SHARED_DIRECTORY, UPLOADS

#: Begins the names of directories that a restore unpacks in; one that was killed leaves them to the next.
STAGING = ".restoring-"


def restore(paths: StatePaths, source: Path, *, replace: bool) -> str:
    """Restore the backup `source`; a sentence about it. Raises BackupError, and changes nothing then."""
    if os.geteuid() != 0:
        raise BackupError("must be run as root")
    try:
        if not stat.S_ISREG(source.stat().st_mode):  # a FIFO would be waited for
            raise BackupError(f"{source} is not a regular file")
        file = source.open("rb")
    except OSError as e:
        raise BackupError(f"{source}: {e.strerror}") from e
    with file:
        paths.place.state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        with service_lock(paths.place, lambda said: print(said, file=sys.stderr)):
            _must_be_free(paths, replace=replace)
            with Staged(paths) as staged:
                about = read_archive(file, _accept, staged.place_member)
                staged.check_records()
                kept = staged.commit()
    words = f"restored the backup of {about.created_at}, version {about.version}. Start the service: make up"
    if kept:
        words += "\nThe state that was there is kept; remove it when all is well:" + "".join(
            f"\n  {path}" for path in kept
        )
    if staged.settings_left:
        words += f"\nSettings that are there already were left as they are: {', '.join(staged.settings_left)}"
    if paths.in_s3:
        words += "\nSTORAGE_URL names S3: the contents of files are expected in the bucket"
    return words


def _must_be_free(paths: StatePaths, *, replace: bool) -> None:
    if runs(paths.place) or processes(paths.place):
        raise BackupError(f"a service runs in {paths.place.state_dir}: run make down first")
    if replace:
        return
    there = [
        path for path in (paths.database, paths.home / "signing.key", paths.home / "instance") if path.exists()
    ]
    there += [
        blob for area in (UPLOADS, ARTIFACTS) for blob in list((paths.storage / area / BLOBS).glob("*/*"))[:1]
    ]
    if there:
        raise BackupError(
            f"{paths.place.state_dir} holds the state of a service ({there[0]}): REPLACE=1 puts the backup in "
            "its place; the present state is kept next to it"
        )


def _accept(about: BackupInfo) -> None:
    """Raise BackupError for a backup of a version that is newer than this one."""
    version = VERSION
    if is_newer(about.version, version) or about.revision not in known_revisions():
        raise BackupError(
            f"the backup is of version {about.version!a} (records {about.revision!a}); this is version "
            f"{version} (records {known_revisions()[-1]}): install that version or a newer one, then restore"
        )


class Staged:
    """A state being unpacked next to its target. It is removed unless it is committed."""

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        self._name = STAGING + secrets.token_hex(8)
        #: The target of each part: unpacked directory, and the path it will get.
        self._database = paths.database.parent / self._name
        self._home = paths.place.state_dir / self._name
        self._storage = paths.storage / self._name
        self._settings: dict[str, bytes] = {}
        self.settings_left: list[str] = []

    def __enter__(self) -> Self:
        uid = self._paths.api_uid
        try:
            for folder in (self._database, self._home, self._storage):
                folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                for old in folder.parent.glob(STAGING + "*"):
                    shutil.rmtree(old)
                folder.mkdir(mode=0o700)
            os.chown(self._database, uid, uid)
            self._make_area(UPLOADS, uid, PRIVATE_DIRECTORY)
            self._make_area(ARTIFACTS, os.geteuid(), SHARED_DIRECTORY)
        except OSError as e:
            self._remove()
            raise BackupError(f"{e.filename}: {e.strerror}") from e
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        for folder in (self._database, self._home, self._storage):
            shutil.rmtree(folder, ignore_errors=True)

    def _make_area(self, area: str, uid: int, mode: int) -> None:
        for folder in (self._storage / area, self._storage / area / BLOBS):
            self._make(folder, uid, mode)

    def _make(self, folder: Path, uid: int, mode: int) -> None:
        folder.mkdir(mode=0o700)
        os.chown(folder, uid, self._paths.api_uid)
        folder.chmod(mode)

    def place_member(self, member: Member) -> None:
        """Unpack one file. Raises BackupError if the disk is full."""
        uid = self._paths.api_uid
        blob = BLOB.fullmatch(member.name)
        try:
            if member.name.startswith("settings/"):
                self._settings[member.name.removeprefix("settings/")] = b"".join(member.pieces())
            elif member.name == DATABASE:
                self._write(self._database / self._paths.database.name, member, uid, 0o600)
            elif blob:
                area, sha256 = blob.groups()
                owner, folder_mode = (uid, PRIVATE_DIRECTORY) if area == UPLOADS else (0, SHARED_DIRECTORY)
                folder = self._storage / area / BLOBS / sha256[:2]
                if not folder.is_dir():
                    self._make(folder, owner, folder_mode)
                self._write(folder / sha256, member, owner, 0o600 if area == UPLOADS else 0o640)
            else:
                self._write(self._home / Path(member.name).name, member, uid, 0o600)
        except OSError as e:
            raise BackupError(f"{member.name} cannot be unpacked: {e.strerror}; nothing was changed") from e

    def _write(self, path: Path, member: Member, uid: int, mode: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            for piece in member.pieces():
                file.write(piece)
            file.flush()
            os.fchown(fd, uid, self._paths.api_uid)
            os.fchmod(fd, mode)
            os.fsync(fd)

    def check_records(self) -> None:
        """Have a child of api's account look through the database. Raises BackupError if it is damaged."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(self._paths.api_uid)
                os.setuid(self._paths.api_uid)
                status = 0 if is_intact(self._database / self._paths.database.name, known_revisions()) else 1
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1] != 0:
            raise BackupError("the file is damaged: the records in it are no database of this service")

    def commit(self) -> list[Path]:
        """Put all parts in place; the directories that hold what was there. Raises BackupError, all undone."""
        stamp = time.strftime("replaced-%Y%m%dT%H%M%SZ", time.gmtime())
        moves = _Moves(stamp)
        paths = self._paths
        try:
            for suffix in (*SUFFIXES, ".lock"):
                moves.put_aside(paths.database.with_name(paths.database.name + suffix))
            moves.put(self._database / paths.database.name, paths.database)
            os.chown(paths.database.parent, paths.api_uid, paths.api_uid)
            paths.database.parent.chmod(0o700)
            home = paths.home
            if not home.is_dir():
                home.mkdir(mode=0o700)
            os.chown(home, paths.api_uid, paths.api_uid)
            for name in ("signing.key", "instance"):
                moves.put_aside(home / name)
                if (self._home / name).exists():
                    moves.put(self._home / name, home / name)
            if not paths.in_s3:
                for area in (UPLOADS, ARTIFACTS):
                    moves.put_aside(paths.storage / area)
                    moves.put(self._storage / area, paths.storage / area)
            self._write_settings(moves)
        except OSError as e:
            moves.undo()
            raise BackupError(f"{e.filename}: {e.strerror}; nothing was changed") from e
        except BaseException:
            moves.undo()
            raise
        for name in (SNAPSHOT, LOCK):
            with suppress(FileNotFoundError):
                (paths.database.parent / name).unlink()
        return moves.kept()

    def _write_settings(self, moves: _Moves) -> None:
        """Write the settings files that are not there; name those that are and differ."""
        there = self._paths.settings()
        for name, text in self._settings.items():
            path = there[name]
            if path.exists():
                if path.read_bytes() != text:
                    self.settings_left.append(str(path))
                continue
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            moves.made(path)
            with os.fdopen(fd, "wb") as file:
                file.write(text)


class _Moves:
    """Renames, which can be undone."""

    def __init__(self, stamp: str) -> None:
        self._stamp = stamp
        self._done: list[tuple[Path, Path]] = []
        self._made: list[Path] = []
        self._kept: list[Path] = []

    def put_aside(self, path: Path) -> None:
        """Rename an existing path, to keep it next to its place."""
        if os.path.lexists(path):
            folder = path.parent / self._stamp
            if folder not in self._kept:
                folder.mkdir(mode=0o700)
                self._kept.append(folder)
            self.put(path, folder / path.name)

    def put(self, source: Path, target: Path) -> None:
        """Rename to a name that is free."""
        os.rename(source, target)
        self._done.append((source, target))

    def made(self, path: Path) -> None:
        """Note a new file."""
        self._made.append(path)

    def undo(self) -> None:
        """Rename everything back."""
        for path in self._made:
            path.unlink(missing_ok=True)
        for source, target in reversed(self._done):
            with suppress(OSError):
                os.rename(target, source)
        for folder in self._kept:
            with suppress(OSError):
                folder.rmdir()

    def kept(self) -> list[Path]:
        """Return the directories with what was put aside."""
        return self._kept


@contextmanager
def _ending_well() -> Iterator[None]:
    """Have SIGTERM end the block as an interrupt does, with what it has begun undone."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> int:
    """Restore the state from a backup. Returns 0 on success."""
    given = os.environ.get("FILE", "")
    if not given:
        print("make restore: name the backup: make restore FILE=/var/backups/runyard.tar", file=sys.stderr)
        return 2
    os.umask(0o022)
    try:
        with _ending_well():
            print(restore(of_environment(), Path(given).absolute(), replace=os.environ.get("REPLACE") == "1"))
    except BackupError as e:
        print(f"make restore: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make restore: interrupted; nothing was changed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

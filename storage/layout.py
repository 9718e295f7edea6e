"""The directories of blobs on this machine: whose they are, and who may read them.

    STORAGE_DIR              root, 0755: api cannot replace its entries
    ├── uploads/             api, 0700: api writes; root reads it as untrusted data
    │   ├── blobs/ab/ab12…   one file a blob, named by its hash
    │   └── tmp/             blobs being written, each locked by its writer
    └── artifacts/           root, group api, 2750: the worker writes; api reads
        ├── blobs/…
        └── tmp/             2700

`make_areas` is called by root before api and worker start, and makes the first two levels. Their writer creates
everything below: root never makes, changes or deletes anything beneath `uploads`.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from storage import beneath
from storage.errors import StorageMisconfigured

UPLOADS, ARTIFACTS = "uploads", "artifacts"
BLOBS, TEMPORARY = "blobs", "tmp"
#: New entries of such a directory belong to its group, independent of their creator.
GROUP_INHERITED = stat.S_ISGID
SHARED_DIRECTORY, PRIVATE_DIRECTORY = GROUP_INHERITED | 0o750, 0o700
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_areas(storage_dir: Path, api_uid: int) -> None:
    """Make both areas with their owners and modes; `api_uid` is also the gid of api. To be called as root.

    Raises StorageMisconfigured where api could not reach it or another account could replace it, OSError if it
    cannot be made.
    """
    check_place(storage_dir)
    storage_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    root = os.open(storage_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _must_be_roots(storage_dir, os.fstat(root))
        _make(root, UPLOADS, api_uid, api_uid, PRIVATE_DIRECTORY)
        _make(root, ARTIFACTS, os.geteuid(), api_uid, SHARED_DIRECTORY)
    finally:
        os.close(root)


def check_place(storage_dir: Path) -> None:
    """Check, without changing anything, whether both areas can be there. Raises StorageMisconfigured."""
    if not storage_dir.is_absolute():
        raise StorageMisconfigured(f"STORAGE_DIR: {storage_dir} must be an absolute path")
    for folder in (storage_dir, *storage_dir.parents):
        if folder.exists():
            if not folder.is_dir():
                raise StorageMisconfigured(f"STORAGE_DIR: {folder} is not a directory")
            _must_be_reachable(folder)
    if storage_dir.exists():
        _must_be_roots(storage_dir, storage_dir.stat())


def _must_be_roots(storage_dir: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid() or found.st_mode & OTHERS_WRITE:
        raise StorageMisconfigured(
            f"STORAGE_DIR: {storage_dir} must belong to root and be writable by no other account"
        )


def _must_be_reachable(folder: Path) -> None:
    mode = folder.stat().st_mode
    if not mode & stat.S_IXOTH:
        raise StorageMisconfigured(
            f"STORAGE_DIR: {folder} is closed to other accounts, and the api runs as one (chmod o+x {folder})"
        )
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise StorageMisconfigured(f"STORAGE_DIR: any account can replace what is in {folder}")


def _make(root: int, name: str, uid: int, gid: int, mode: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=root)
    try:
        fd = beneath.open_directory(name, root)
    except OSError as e:
        raise StorageMisconfigured(f"STORAGE_DIR: {name} in it is not a directory") from e
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)

"""Saving what a run left, under names that the program chose: nothing is written outside of the folder.

Every folder and file is opened relative to its parent's descriptor, and no link is followed on the way. The bytes
go into a new file next to the target, which is renamed once they are complete and checked; it replaces an ordinary
file and nothing else. POSIX only (Linux, macOS).
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from runyard.errors import RunyardError, SaveError
from runyard.text import safe_name, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runyard.client import Client
    from runyard.models import Artifact, Run

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Saved:
    """The result of saving one artifact: the path it was written to, or the error."""

    artifact: Artifact
    path: Path | None
    error: RunyardError | None = None


def save_artifacts(client: Client, run: Run, folder: str | Path) -> list[Saved]:
    """Fetch the artifacts of a run into a folder, which is made. Raises SaveError when that cannot be."""
    return list(saving(run.artifacts, folder, client.files.download))


def saving(
    artifacts: Iterable[Artifact], folder: str | Path, fetch: Callable[[Artifact, BinaryIO], object]
) -> Iterator[Saved]:
    """Save one after the other; an artifact that cannot be saved does not keep the others from it."""
    base = Path(folder)
    try:
        base.mkdir(parents=True, exist_ok=True)
        # The folder itself is the user's own word: that one may be a link.
        top = os.open(base, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError as e:
        raise SaveError(f"{base}: cannot be written to: {e.strerror}") from e
    try:
        taken: set[str] = set()
        for artifact in artifacts:
            parts = _unused(local_parts(artifact.path or artifact.name), taken)
            try:
                _save(top, parts, artifact, fetch)
                yield Saved(artifact, base.joinpath(*parts))
            except RunyardError as e:
                yield Saved(artifact, None, e)
            except OSError as e:
                error = SaveError(f"{shown('/'.join(parts))}: cannot be written: {e.strerror}")
                yield Saved(artifact, None, error)
    finally:
        os.close(top)


def local_parts(path: str) -> tuple[str, ...]:
    """Split a path of the service into safe local names: no `..`, no absolute path, never empty."""
    names = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return tuple(safe_name(name) for name in names[-_MAX_DEPTH:]) or ("artifact",)


def _unused(parts: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    """Return these names, with a number added if another artifact of this run has the same."""
    *folders, name = parts
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    chosen, number = (*folders, name), 1
    while "/".join(chosen).casefold() in taken:
        number += 1
        chosen = (*folders, f"{stem[:200]} ({number}){dot}{ending}")
    taken.add("/".join(chosen).casefold())
    return chosen


def _save(
    top: int, parts: tuple[str, ...], artifact: Artifact, fetch: Callable[[Artifact, BinaryIO], object]
) -> None:
    with _folder(top, parts[:-1]) as folder:
        _check_replaceable(folder, parts)
        temporary = f".runyard-{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(temporary, _NEW_FILE, 0o666, dir_fd=folder), "wb") as opened:
                fetch(artifact, opened)
            _check_replaceable(folder, parts)
            os.replace(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            _forget(folder, temporary)
            raise


@contextmanager
def _folder(top: int, names: tuple[str, ...]) -> Iterator[int]:
    """Open the folder of these names below `top` and create it if missing. Raises SaveError for a symbolic link."""
    opened = os.dup(top)
    try:
        for index, name in enumerate(names):
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=opened)
            try:
                below = os.open(name, _FOLDER, dir_fd=opened)
            except OSError as e:
                where = shown("/".join(names[: index + 1]))
                raise SaveError(f"{where}: is not a real folder (links are not followed)") from e
            os.close(opened)
            opened = below
        yield opened
    finally:
        os.close(opened)


def _check_replaceable(folder: int, parts: tuple[str, ...]) -> None:
    try:
        there = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(there.st_mode) or there.st_nlink != 1:
        raise SaveError(f"{shown('/'.join(parts))}: exists and is not a regular file; not overwritten")


def _forget(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)

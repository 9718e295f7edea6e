"""The layers on this machine's disk: found by request, held while they are used, removed least recently used first.

Each is a directory `lay_…` with its files in `files` and its facts in `layer.json`; it appears by one rename,
complete. A holder has a shared lock (flock) on the directory, so that no other process removes it either; the
kernel gives the lock back when its holder dies. The directory's mtime is the time of the last use.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from protocol.limits import MIB
from sandbox.layers.facts import LayerFacts
from storage import beneath

log = logging.getLogger(__name__)

FILES = "files"
FACTS = "layer.json"
#: Names of what is being made or removed start so; what an earlier worker left is removed at start.
UNFINISHED = "unfinished-"
#: One key holds at most this share of the whole.
KEY_SHARE = 4


class LayersFull(Exception):
    """There is no room for one more layer, even without all that nobody uses."""


@dataclass(frozen=True, slots=True)
class HeldLayer:
    """The files of a layer that is kept from removal by `lock`, a descriptor, and by each copy of it."""

    files: Path
    lock: int


class LayerStore:
    """The layers beneath one directory, which only root can enter. Safe for threads."""

    def __init__(
        self,
        directory: Path,
        max_mb: int,
        clock: Callable[[], float] = time.time,
        release: Callable[[Path], None] = lambda _files: None,
    ) -> None:
        """`release` is called with the files of a layer that is to be removed and is held: what only keeps it ready
        for a later use ends.
        """
        self._directory = directory
        self._max_bytes = max_mb * MIB
        self._clock = clock
        self._release = release
        self._lock = threading.Lock()
        self._facts: dict[str, LayerFacts] = {}

    def open(self) -> None:
        """Read the layers that are there. A worker calls `tidy` then; a process beside it must not."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._directory.iterdir()):
            facts = None if path.name.startswith(UNFINISHED) else _read(path)
            if facts is not None:
                self._facts[facts.id] = facts

    def tidy(self) -> None:
        """Remove what an earlier worker did not complete. Nothing may be in the making."""
        for path in self._directory.iterdir():
            if path.name not in self._facts:
                shutil.rmtree(path, ignore_errors=True)

    def find(self, key: str, image: str, request: tuple[str, ...]) -> LayerFacts | None:
        """Return the newest layer that answers the request; it may have to be resolved again (`is_fresh`)."""
        with self._lock:
            found = [facts for facts in self._facts.values() if facts.answers(key, image, request)]
        return max(found, key=lambda facts: facts.created_at, default=None)

    def known_to(self, key: str, layer_id: str) -> LayerFacts | None:
        """Return a layer that the key has used; None for every other."""
        with self._lock:
            facts = self._facts.get(layer_id)
        return facts if facts is not None and key in facts.users else None

    def make_place(self, layer_id: str) -> Path:
        """Return a new directory for a layer that is being made; pass it to `add`, or remove it."""
        path = self._directory / f"{UNFINISHED}{layer_id}"
        path.mkdir(mode=0o700)
        return path

    def drop_place(self, place: Path) -> None:
        """Remove a directory of `make_place` that will not be a layer."""
        shutil.rmtree(place, ignore_errors=True)

    def add(self, facts: LayerFacts, place: Path) -> None:
        """Take a directory whose `files` are complete as the layer. Raises LayersFull; FileExistsError for a second
        one with the id.
        """
        self._make_room(facts)
        _write_facts(place, facts)
        with self._lock:
            path = self._path(facts.id)
            if path.exists():
                raise FileExistsError(f"there is a layer {facts.id}")
            place.rename(path)
            now = self._clock()
            os.utime(path, (now, now))
            self._facts[facts.id] = facts

    @contextmanager
    def hold(self, layer_id: str, key: str) -> Iterator[HeldLayer | None]:
        """Keep a layer from removal for the key's use, and give its files; None if it has been removed."""
        path = self._path(layer_id)
        try:
            fd = os.open(path, beneath.DIRECTORY)
        except FileNotFoundError:
            # Another process has cleaned up.
            self._forget(layer_id)
            yield None
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield HeldLayer(path / FILES, fd) if self._is_used_now(layer_id, key, fd) else None
        finally:
            os.close(fd)

    def used_since(self, moment: float) -> list[LayerFacts]:
        """Return the layers that are in use, or were used after a time in seconds since 1970."""
        return [facts for facts in self._copy() if self._last_use(facts) > moment or self._is_held(facts.id)]

    def collect(self) -> int:
        """Remove the least recently used until every bound is kept; the number removed."""
        keys = {facts.key for facts in self._copy()}
        removed = sum(self._shrink(self._max_bytes // KEY_SHARE, key) for key in sorted(keys))
        return removed + self._shrink(self._max_bytes, None)

    def _make_room(self, facts: LayerFacts) -> None:
        for bound, key in ((self._max_bytes // KEY_SHARE, facts.key), (self._max_bytes, None)):
            self._shrink(bound - facts.size, key)
            if self._size(key) + facts.size > bound:
                whose = "of this key" if key is not None else "on this machine"
                raise LayersFull(f"the layers {whose} may have {bound} bytes, and too many are in use")

    def _shrink(self, bound: int, key: str | None) -> int:
        removed = 0
        for facts in self._oldest_first(key):
            if self._size(key) <= bound:
                break
            removed += self._remove(facts.id)
        return removed

    def _size(self, key: str | None) -> int:
        return sum(facts.size for facts in self._copy() if key in (None, facts.key))

    def _oldest_first(self, key: str | None) -> list[LayerFacts]:
        return sorted((facts for facts in self._copy() if key in (None, facts.key)), key=self._last_use)

    def _last_use(self, facts: LayerFacts) -> float:
        try:
            return self._path(facts.id).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _is_held(self, layer_id: str) -> bool:
        try:
            fd = os.open(self._path(layer_id), beneath.DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _remove(self, layer_id: str) -> bool:
        """Remove a layer unless it is in use; whether it is gone."""
        if self._is_held(layer_id):
            self._release(self._path(layer_id) / FILES)
        path, doomed = self._path(layer_id), self._directory / f"{UNFINISHED}{layer_id}-removed"
        try:
            fd = os.open(path, beneath.DIRECTORY)
        except FileNotFoundError:
            self._forget(layer_id)
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.rename(doomed)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        self._forget(layer_id)
        shutil.rmtree(doomed, ignore_errors=True)
        return True

    def _is_used_now(self, layer_id: str, key: str, fd: int) -> bool:
        """Note a use of the layer whose directory is locked, if that is still the layer."""
        path = self._path(layer_id)
        with self._lock:
            facts = self._facts.get(layer_id)
            with suppress(FileNotFoundError):
                if facts is not None and os.path.samestat(path.stat(), os.fstat(fd)):
                    if key not in facts.users:
                        self._facts[layer_id] = facts.used_by(key)
                        _write_facts(path, self._facts[layer_id])
                    now = self._clock()
                    os.utime(fd, (now, now))
                    return True
        return False

    def _forget(self, layer_id: str) -> None:
        with self._lock:
            self._facts.pop(layer_id, None)

    def _copy(self) -> list[LayerFacts]:
        with self._lock:
            return list(self._facts.values())

    def _path(self, layer_id: str) -> Path:
        return self._directory / layer_id


def _read(path: Path) -> LayerFacts | None:
    try:
        facts = LayerFacts.from_json((path / FACTS).read_text("utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as e:
        log.warning("a layer without its facts is not used: %s", path.name, extra={"cause": repr(e)})
        return None
    return facts if facts.id == path.name and (path / FILES).is_dir() else None


def _write_facts(path: Path, facts: LayerFacts) -> None:
    """Replace the facts of a layer at once."""
    new = path / f"{FACTS}.new"
    with new.open("w", encoding="utf-8") as stream:
        stream.write(facts.to_json())
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(path / FACTS)

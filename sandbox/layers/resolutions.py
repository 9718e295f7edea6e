"""The packages that a request was resolved to, kept beyond its layer: a later build must get the same files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.layers.facts import RESOLVED_AGAIN_S, LockedPackage

log = logging.getLogger(__name__)

#: Requests that are remembered; the oldest are forgotten.
MOST = 10_000


class Resolutions:
    """One small file for each key, ecosystem and request, in a directory that only root can enter."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock

    def find(self, key: str, image: str, request: tuple[str, ...], *, is_pinned: bool) -> tuple[LockedPackage, ...]:
        """Return the packages of an earlier build; empty if there is none, or it is to be resolved again."""
        path = self._path(key, image, request)
        try:
            age = self._clock() - path.stat().st_mtime
            found = json.loads(path.read_text("utf-8"))
            packages = tuple(LockedPackage(*entry) for entry in found)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as e:
            log.warning("a record of resolved packages cannot be read", extra={"cause": repr(e)})
            return ()
        return packages if is_pinned or age < RESOLVED_AGAIN_S else ()

    def keep(
        self,
        key: str,
        image: str,
        request: tuple[str, ...],
        packages: tuple[LockedPackage, ...],
        resolved_at: float,
    ) -> None:
        """Record the packages of a build, resolved at a time in seconds since 1970. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(key, image, request)
        new = path.with_suffix(".new")
        new.write_text(json.dumps([[one.name, one.version, one.sha256] for one in packages]), "utf-8")
        os.utime(new, (resolved_at, resolved_at))
        new.rename(path)

    def collect(self) -> int:
        """Forget the oldest beyond the most that are remembered; the number forgotten."""
        try:
            paths = sorted(self._directory.iterdir(), key=lambda path: path.stat().st_mtime)
        except FileNotFoundError:
            return 0
        doomed = paths[: max(0, len(paths) - MOST)]
        for path in doomed:
            path.unlink(missing_ok=True)
        return len(doomed)

    def _path(self, key: str, image: str, request: tuple[str, ...]) -> Path:
        named = hashlib.sha256("\0".join((key, image, *request)).encode()).hexdigest()
        return self._directory / f"{named}.json"

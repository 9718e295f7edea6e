"""The image store on disk: layers by key, the pointers that the worker reads, one builder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ops.images.run import BuildProgress

BUILDING = ".building-"


class Store:
    """`IMAGES_DIR`: finished layers with their `image.json`, and one pointer per language."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @contextlib.contextmanager
    def locked(self, progress: BuildProgress) -> Iterator[None]:
        """Keep other builders out. Waits for one that is at work, and clears up after one that was killed."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.say("waiting for another build to finish")
                fcntl.flock(file, fcntl.LOCK_EX)
            for leftover in self.folder.glob(BUILDING + "*"):
                shutil.rmtree(leftover)
            yield

    @contextlib.contextmanager
    def building(self, name: str) -> Iterator[Path]:
        """Create a temporary directory for the layer `name`; rename it into the store when the block succeeds."""
        place = self.folder / f"{BUILDING}{name}"
        place.mkdir(mode=0o755)
        try:
            yield place
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        os.rename(place, self.folder / name)

    def layer(self, name: str) -> dict[str, Any] | None:
        """Return the metadata of a finished layer; None if it does not exist."""
        return _read(self.folder / name / "image.json")

    def pointer(self, language: str) -> dict[str, Any] | None:
        """Return the image pointer that the worker reads; None if the language is not built or lacks a layer."""
        data = _read(self.folder / f"{language}.json")
        if data is None or not all(os.path.isdir(layer) for layer in data.get("layers", ())):
            return None
        return data

    def point(self, language: str, data: dict[str, Any]) -> None:
        """Write the pointer: from here on the worker uses this image."""
        path = self.folder / f"{language}.json"
        fresh = path.with_suffix(".json.new")
        write_json(fresh, data)
        os.replace(fresh, path)

    def collect(self) -> list[str]:
        """Remove layers that no pointer names; their names. Only while no service runs from this store."""
        used = {
            Path(layer).parent.name
            for path in self.folder.glob("*.json")
            for layer in (_read(path) or {}).get("layers", ())
        }
        layers = (path.parent for path in self.folder.glob("*-*/image.json"))
        gone = [path for path in layers if path.name not in used]
        for path in gone:
            shutil.rmtree(path)
        return sorted(path.name for path in gone)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a world-readable JSON file and sync it to disk."""
    with path.open("w") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None

"""Runner images as they lie on disk: unpacked layers and the file that points at them.

The builder (`ops`) writes `IMAGES_DIR/<language>.json` last and atomically; its absence means "not built yet".
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Image:
    """One runner image: `layers` are directories, topmost first; `digest` is over their content."""

    language: str
    digest: str
    layers: tuple[str, ...]
    version: str = ""
    packages: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    #: By which name an engine with a store of its own knows it.
    reference: str = ""


class Images(Protocol):
    """The source from which the pool learns which images can be started."""

    def get(self, language: str) -> Image | None:
        """Return the current image of a language, or None while none can be started."""
        ...


class ImageStore:
    """Reads pointers; remembers what it has read until the file changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)  # as text: a run asks more than once, and a Path costs more than the kernel does
        self._cache: dict[str, tuple[int, Image]] = {}

    def get(self, language: str) -> Image | None:
        """Return the current image of a language, or None while it is not built."""
        path = f"{self._folder}/{language}.json"
        try:
            changed = os.stat(path).st_mtime_ns
            cached = self._cache.get(language)
            if cached and cached[0] == changed:
                return cached[1]
            data = json.loads(Path(path).read_text())
        except (OSError, ValueError):
            return None
        image = Image(
            language=data["language"],
            digest=data["digest"],
            layers=tuple(data["layers"]),
            version=data.get("version", ""),
            packages=tuple(data.get("packages", ())),
        )
        self._cache[language] = (changed, image)
        return image


class OverriddenImages:
    """Some languages' images given by the service's owner, the others' from a store. Implements `Images`."""

    def __init__(self, given: dict[str, Image], store: Images) -> None:
        self.given = given
        self._store = store

    def get(self, language: str) -> Image | None:
        """Return the given image of a language, or the store's."""
        return self.given.get(language) or self._store.get(language)

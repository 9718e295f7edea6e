"""Telling what a sandbox is from outside: by the files of its root file system."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from bench.service import Service


def language_of(pids: list[int], service: Service) -> str | None:
    """The language of the sandbox that these processes are in: whose files they see."""
    marks: dict[str, tuple[str, int]] = {
        language["id"]: _mark(image.layers)
        for language in service.languages
        if (image := service.image(language["id"]))
    }
    for pid in pids:
        for language, (path, inode) in marks.items():
            with suppress(OSError):
                if os.lstat(f"/proc/{pid}/root/{path}").st_ino == inode:
                    return language
    return None


@cache
def _mark(layers: tuple[str, ...]) -> tuple[str, int]:
    """A file of an image that no other has: where it lies, and its number, which an overlay mount leaves it."""
    _agent, own, _base = layers
    for folder, _, names in os.walk(own):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                return str(path.relative_to(own)), path.stat().st_ino
    raise RuntimeError(f"an image without files: {own}")


def has_libraries(pids: list[int]) -> bool:
    """Whether one of these processes has numpy loaded: the kind with libraries imported ahead."""
    for pid in pids:
        with suppress(OSError):
            if "numpy" in Path(f"/proc/{pid}/maps").read_text():
                return True
    return False

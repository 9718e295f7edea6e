"""Telling what a sandbox is from outside: by the layers of its root file system."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bench.service import Service


def language_of(pids: list[int], service: Service) -> str | None:
    """The language of the sandbox that these processes are in, as the kernel lists its root's layers."""
    images = [image for language in service.languages if (image := service.image(language["id"]))]
    for pid in pids:
        mounts = ""
        with suppress(OSError):
            mounts = Path(f"/proc/{pid}/mountinfo").read_text()
        root = next((line for line in mounts.splitlines() if line.split(" ")[4] == "/"), "")
        for image in images:
            if ":".join(image.layers) in root:
                return image.language
    return None


def has_libraries(pids: list[int]) -> bool:
    """Whether one of these processes has numpy loaded: the kind with libraries imported ahead."""
    for pid in pids:
        with suppress(OSError):
            if "numpy" in Path(f"/proc/{pid}/maps").read_text():
                return True
    return False

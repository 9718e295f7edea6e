"""The inputs of each layer, and the key that names it.

Modes and owners of the source files are no inputs: a checkout and an installed wheel differ in them, and every
layer is given its own.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from protocol.session import WORKDIRS

#: Raised when the builder itself changes what it makes of the same inputs.
FORMAT = "1"
SUITE = "trixie"
KEY_LENGTH = 12
#: Links to /work in every image, relative to its root (`protocol.session.WORKDIRS`).
WORKDIR_LINKS = tuple(path.lstrip("/") for path in WORKDIRS[1:])
#: In a runner's folder, but read by people, the worker or another tool and not part of the layer.
NOT_BUILT = frozenset({"runner.toml", "Dockerfile", "requirements.in"})
#: A file that is installed where the language looks for it, not with the rest of the runner code.
PLACED_BY_BUILD = "sitecustomize.py"


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """The folder of runners, seen as the inputs of layers."""

    runners: Path
    #: Changed to rebuild everything (newer packages of the same suite).
    refresh: str = ""

    def languages(self) -> list[str]:
        """List the languages that have a runner."""
        return sorted(path.parent.name for path in self.runners.glob("*/runner.toml"))

    def base(self) -> dict[str, Path]:
        return _files(self.runners / "base", skip=NOT_BUILT)

    def agent(self) -> dict[str, Path]:
        """Map paths beneath /opt/runyard (`agent/…`, `python/…`) to the files of the agent and of each runner."""
        found = {f"agent/{name}": path for name, path in _files(self.runners / "agent").items()}
        for language in self.languages():
            for name, path in _files(self.runners / language / "warm").items():
                if path.name != PLACED_BY_BUILD:
                    found[f"{language}/{name}"] = path
            for name, path in _files(self.runners / language / "kernel").items():
                found[f"{language}/kernel/{name}"] = path
        return found

    def language(self, language: str) -> dict[str, Path]:
        """Map paths in build.sh's working directory to the language's files, without pip's downloads in `site/`."""
        found = {
            name: path
            for name, path in _files(self.runners / language, skip=NOT_BUILT).items()
            if not name.startswith(("warm/", "kernel/")) or path.name == PLACED_BY_BUILD
        }
        return {**found, "tidy.sh": self.runners / "base" / "tidy.sh"}

    def base_key(self) -> str:
        return _key(self.base(), SUITE, self.refresh)

    def agent_key(self) -> str:
        return _key(self.agent(), self.base_key(), *WORKDIR_LINKS)

    def language_key(self, language: str) -> str:
        return _key(self.language(language), self.base_key())

    def image_key(self, language: str) -> str:
        """Return one key for all three layers; the image pointer records it."""
        return _short(self.base_key(), self.agent_key(), self.language_key(language))


def place(files: dict[str, Path], target: Path) -> None:
    """Copy inputs beneath `target`, with the modes every layer has: 0755 and 0644."""
    for name, source in files.items():
        copy = target / name
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        copy.chmod(0o644)


def _files(folder: Path, skip: frozenset[str] = frozenset()) -> dict[str, Path]:
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.name not in skip
    }


def _key(files: dict[str, Path], *more: str) -> str:
    return _short(*(f"{name}\0{_sha256(path)}" for name, path in files.items()), *more)


def _short(*parts: str) -> str:
    text = "\n".join((FORMAT, *parts))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

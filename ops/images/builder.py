"""The order of the build steps, and the pointer at the end."""

from __future__ import annotations

import hashlib
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.images import layers, wheels
from ops.images.inputs import BuildInputs
from ops.images.packages import LOCK
from ops.images.run import BuildProgress
from ops.images.store import BUILDING, Store


class Builder:
    """Brings an image store up to date with the runners' inputs."""

    def __init__(self, store: Store, inputs: BuildInputs, env: dict[str, str], progress: BuildProgress) -> None:
        self._store = store
        self._inputs = inputs
        self._env = env
        self._progress = progress

    def outdated(self, languages: list[str]) -> list[str]:
        """Select the languages whose image is missing or was built from other inputs."""
        return [language for language in languages if not self._is_current(language)]

    def build(self, languages: list[str]) -> None:
        """Build those that are outdated, the first one first. The store must be locked."""
        with ThreadPoolExecutor(max_workers=1) as background:
            for language in languages:
                if self._is_current(language):
                    self._say(language, "up to date")
                else:
                    self._build(language, background)

    def _is_current(self, language: str) -> bool:
        pointer = self._store.pointer(language)
        return pointer is not None and pointer["key"] == self._inputs.image_key(language)

    def _build(self, language: str, background: ThreadPoolExecutor) -> None:
        started = time.monotonic()
        with ExitStack() as cleanup:
            name = f"{language}-{self._inputs.language_key(language)}"
            fetched = None
            if self._store.layer(name) is None:
                # Fetched while Debian is: the two longest steps of a first start.
                fetched = self._fetch(language, background, cleanup)
            base = self._base()
            agent = self._agent(base)
            if self._store.layer(name) is None:
                if fetched is not None:
                    fetched.result()
                self._say(language, "running build.sh")
                with self._store.building(name) as place:
                    layers.make_language(place, self._inputs, language, base / "rootfs", fetched, self._env)
        self._point(language, [agent / "diff", self._store.folder / name / "diff", base / "rootfs"], started)

    def _fetch(self, language: str, background: ThreadPoolExecutor, cleanup: ExitStack) -> Future[Path] | None:
        lock = self._inputs.runners / language / LOCK
        if not lock.exists():
            return None
        self._say(language, "fetching wheels")
        target = self._store.folder / f"{BUILDING}{language}-wheels"
        cleanup.callback(shutil.rmtree, target, ignore_errors=True)

        def work() -> Path:
            wheels.fetch(lock, target, self._env)
            self._say(language, "wheels downloaded")
            return target

        return background.submit(work)

    def _base(self) -> Path:
        name = f"base-{self._inputs.base_key()}"
        if self._store.layer(name) is None:
            self._say("base", "creating the Debian base system")
            with self._store.building(name) as place:
                layers.make_base(place, self._inputs, self._env)
            self._say("base", "done")
        return self._store.folder / name

    def _agent(self, base: Path) -> Path:
        name = f"agent-{self._inputs.agent_key()}"
        if self._store.layer(name) is None:
            with self._store.building(name) as place:
                layers.make_agent(place, self._inputs, base / "rootfs", self._env)
        return self._store.folder / name

    def _point(self, language: str, found: list[Path], started: float) -> None:
        about = [self._store.layer(path.parent.name) or {} for path in found]
        whole = hashlib.sha256("\n".join(layer["content"] for layer in about).encode()).hexdigest()
        data: dict[str, Any] = {
            "language": language,
            "digest": f"sha256:{whole}",
            "layers": [str(path) for path in found],
            "version": about[1]["version"],
            "packages": about[1]["packages"],
            "key": self._inputs.image_key(language),
            "built_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "size_bytes": sum(layer["size_bytes"] for layer in about),
            "build_seconds": round(time.monotonic() - started, 1),
        }
        self._store.point(language, data)
        size = f"{data['size_bytes'] / 1e6:.0f} MB, of which the language {about[1]['size_bytes'] / 1e6:.0f} MB"
        self._say(language, f"ready in {data['build_seconds']} s: {data['version']}, {size}")

    def _say(self, who: str, what: str) -> None:
        self._progress.say(f"{who}: {what}")

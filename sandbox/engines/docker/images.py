"""Runner images in the daemon: loaded from the layers that the builder made, before anything is started of them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import replace
from pathlib import Path

from sandbox.engines import EngineError
from sandbox.engines.docker.archive import LABEL_DIGEST, archive_of
from sandbox.engines.docker.daemon import Daemon
from sandbox.images import Image, Images

log = logging.getLogger(__name__)

#: After a failure to load, before the next try.
RETRY_S = 30.0


class LoadedImages:
    """The images of a store that are in the daemon too. One that is not is loaded behind the scenes.

    Implements `Images`: a language is not ready while its image is being loaded.
    """

    def __init__(self, store: Images, daemon: Daemon, scratch: Path) -> None:
        """`scratch` is a directory with room for a layer. Starts no thread."""
        self._store = store
        self._daemon = daemon
        self._scratch = scratch
        self._lock = threading.Lock()
        self._loaded: dict[str, Image] = {}
        self._wanted: set[str] = set()
        self._queue: queue.SimpleQueue[Image] = queue.SimpleQueue()
        self._started = False

    def get(self, language: str) -> Image | None:
        """Return the image if it can be started; None while it is not built or not loaded."""
        image = self._store.get(language)
        if image is None or image.reference:
            return image
        with self._lock:
            if (loaded := self._loaded.get(image.digest)) is not None:
                return loaded
            if image.digest not in self._wanted:
                self._wanted.add(image.digest)
                self._queue.put(image)
                if not self._started:
                    self._started = True
                    threading.Thread(target=self._work, name="load-images", daemon=True).start()
        return None

    def forget(self, image: Image) -> None:
        """Check for the image and load it again, because the daemon no longer has it."""
        with self._lock:
            self._loaded.pop(image.digest, None)

    def _work(self) -> None:
        while True:
            image = self._queue.get()
            try:
                loaded = self._load(image)
            except (EngineError, OSError) as e:
                log.error("an image could not be loaded", extra={"language": image.language, "reason": str(e)})  # noqa: TRY400  # the text is complete
                time.sleep(RETRY_S)
                loaded = None
            with self._lock:
                self._wanted.discard(image.digest)
                if loaded is not None:
                    self._loaded[image.digest] = loaded

    def _load(self, image: Image) -> Image:
        reference = f"runyard/{image.language}:{image.digest.removeprefix('sha256:')[:12]}"
        if not self._holds(reference, image):
            started = time.monotonic()
            self._daemon.load(archive_of(image, reference, self._scratch))
            if not self._holds(reference, image):
                raise EngineError(f"the daemon did not take image {reference}")
            seconds = round(time.monotonic() - started, 1)
            log.info("an image was loaded", extra={"reference": reference, "seconds": seconds})
        return replace(image, reference=reference)

    def _holds(self, reference: str, image: Image) -> bool:
        """Return whether the daemon has this image under that name, which could belong to another image."""
        found = self._daemon.image(reference)
        labels = (found or {}).get("Config", {}).get("Labels") or {}
        return bool(labels.get(LABEL_DIGEST) == image.digest)


def referenced_image(language: str, reference: str, daemon: Daemon) -> Image:
    """Return an image that the daemon's owner has provided. Raises EngineError if it is missing."""
    found = daemon.image(reference)
    if found is None:
        raise EngineError(f"the Docker daemon has no such image: docker pull {reference}, or build it there")
    return Image(language, digest=found["Id"], layers=(), reference=reference)

"""Assemble what provides packages to runs, and clean up its disk now and then."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from sandbox.layers.bucket import LayerBucket
from sandbox.layers.builder import LayerBuilder
from sandbox.layers.builds import LayerBuilds
from sandbox.layers.provider import LayerProvider
from sandbox.layers.registries import Registries, home_of_service, registries_of_host
from sandbox.layers.resolutions import Resolutions
from sandbox.layers.store import LayerStore
from sandbox.run.package_layers import LayerSupply
from storage.errors import StorageUnavailable

if TYPE_CHECKING:
    from config.settings import Settings
    from sandbox.images import Images
    from sandbox.languages import Catalogue
    from sandbox.layers.stored import ObjectStore
    from sandbox.lock_watch import LockWatch
    from sandbox.pool.warm_pool import WarmPool
    from sandbox.sessions.hub import SessionHub
    from sandbox.sessions.memory import SessionMemory

log = logging.getLogger(__name__)


class WorkerLayers:
    """The layers of one worker. `open` once, before a request comes."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        images: Images,
        pool: WarmPool,
        memory: SessionMemory,
        hub: SessionHub,
        locks: LockWatch,
        objects: ObjectStore | None,
    ) -> None:
        """`objects` keeps layers for all workers; None where blobs are stored on this machine."""
        given = Registries(
            pip=settings.pypi_url or "",
            npm=settings.npm_url or "",
            go=settings.goproxy or "",
            cargo=settings.cargo_index or "",
        )
        registries = registries_of_host(given, home_of_service())
        self._interval_s = settings.cleanup_interval_s
        self._store = LayerStore(settings.layers_dir / "store", settings.layers_max_mb, release=pool.release_layer)
        self._resolutions = Resolutions(settings.layers_dir / "resolved")
        builder = LayerBuilder(pool, memory, hub, locks, settings.egress_socket, registries)
        self._bucket = (
            None
            if objects is None
            else LayerBucket(
                objects, self._store, max_mb=settings.layers_max_mb, interval_s=settings.cleanup_interval_s
            )
        )
        provider = LayerProvider(
            catalogue, images, self._store, LayerBuilds(), builder, self._resolutions, self._bucket
        )
        self.supply = LayerSupply(provider, settings.packages_timeout_s)

    def open(self, closing: threading.Event) -> None:
        """Read the layers on the disk, remove what is unfinished, and clean up until `closing` is set."""
        self._store.open()
        self._store.tidy()
        if self._bucket is not None:
            self._bucket.start()
        threading.Thread(target=self._clean, args=(closing,), name="clean-layers", daemon=True).start()

    def _clean(self, closing: threading.Event) -> None:
        while not closing.wait(self._interval_s):
            try:
                removed = self._store.collect()
                self._resolutions.collect()
                if self._bucket is not None:
                    removed += self._bucket.collect()
            except (OSError, StorageUnavailable) as e:
                log.warning("layers cannot be cleaned up: %s", e)
                continue
            if removed:
                log.info("layers were removed", extra={"layers": removed})

"""`python -m ops.layers`: what the worker does to layers of packages now and then, at once (`make gc`)."""

from __future__ import annotations

import sys

from config.settings import Settings, SettingsError, load_settings
from sandbox.layers.bucket import LayerBucket
from sandbox.layers.resolutions import Resolutions
from sandbox.layers.store import LayerStore
from storage.areas import for_worker
from storage.errors import StorageError

FAILED = 1


def main() -> int:
    """Remove unfinished layers, and the least recently used beyond the bound. Returns 0 when this is done."""
    try:
        settings = load_settings()
        place = settings.layers_dir
        if not place.is_dir():
            return 0  # nothing has ever been built
        store = LayerStore(place / "store", settings.layers_max_mb)
        store.open()
        store.tidy()
        removed = store.collect()
        Resolutions(place / "resolved").collect()
        if settings.package_mode != "off" and settings.bucket is not None:
            removed += _collect_bucket(settings, store)
    except (SettingsError, StorageError, OSError) as e:
        print(f"layers: {e}", file=sys.stderr)
        return FAILED
    print(f"{removed} layers of packages removed", flush=True)
    return 0


def _collect_bucket(settings: Settings, store: LayerStore) -> int:
    """Remove layers beyond the bound from the bucket, but none that another worker has used of late."""
    objects = for_worker(settings).layers
    if objects is None:
        return 0
    interval_s = settings.cleanup_interval_s
    return LayerBucket(objects, store, max_mb=settings.layers_max_mb, interval_s=interval_s).collect()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m ops.layers`: what the worker does to layers of packages now and then, at once (`make gc`)."""

from __future__ import annotations

import sys

from config.settings import SettingsError, load_settings
from sandbox.layers.resolutions import Resolutions
from sandbox.layers.store import LayerStore

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
    except (SettingsError, OSError) as e:
        print(f"layers: {e}", file=sys.stderr)
        return FAILED
    print(f"{removed} layers of packages removed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The places in a sandbox that a layer of each ecosystem may fill: a layer lies above the whole image.

A builder that has compiled packages is hostile. Elsewhere in the image its files would replace the agent's.
"""

from __future__ import annotations

from dataclasses import replace

from sandbox.frames import ProtocolError
from sandbox.layers.entry import DIRECTORY, MODE_BITS, LayerEntry

#: As the modules of `runners/agent/packages/` fill them.
PLACES: dict[str, tuple[bytes, ...]] = {
    "pip": (b"opt/packages/python",),
    "npm": (b"opt/packages/node_modules", b"opt/packages/package.json", b"node_modules", b"package.json"),
    "go": (b"opt/packages/go",),
    "cargo": (b"opt/packages/rust",),
}


def within_places(entry: LayerEntry, places: tuple[bytes, ...]) -> LayerEntry:
    """Return the entry if it lies in one of the places, or is a directory above one; that gets the image's mode.

    Raises ProtocolError for every other.
    """
    if any(entry.path == place or entry.path.startswith(place + b"/") for place in places):
        return entry
    if entry.kind == DIRECTORY and any(place.startswith(entry.path + b"/") for place in places):
        return replace(entry, mode=MODE_BITS)
    raise ProtocolError("an entry of a layer lies where packages have no place")

"""The roots of sandboxes: read-only overlays of an image's layers, the device nodes on top.

Layers are named to the kernel by descriptors, since a process in a mount can read its options.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from sandbox.engines.oci.devices import make_device_layer
from sandbox.engines.syscalls import MS_NOSUID, MS_RDONLY, detached_overlay, mount, opened_path, unmount
from sandbox.images import Image


class RootfsMounts:
    """Makes them, with a directory (the runtime's bundle) around each that is mounted. For several threads."""

    def __init__(self, place: Path) -> None:
        """`place`: on a file system that takes device nodes."""
        self._devices = make_device_layer(place)
        #: By the paths of an image's layers, the directories, topmost first, open until `close`.
        self._opened: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._lock = threading.Lock()

    def mount(self, bundle: str, image: Image, layer: Path | None = None) -> str:
        """Make a bundle's directory and mount a root in it, with a layer of packages if there is one; its path.

        Or nothing, and OSError.
        """
        root = f"{bundle}/root"
        os.mkdir(bundle)
        try:
            os.mkdir(root)
            with self._with_layer(image, layer) as layers:
                lower = ":".join(map(opened_path, layers))
                mount("overlay", root, "overlay", MS_RDONLY | MS_NOSUID, f"lowerdir={lower}")
        except OSError:
            _remove(bundle)
            raise
        return root

    def remove(self, bundle: str) -> None:
        """Unmount both. Processes that still use the root keep it until they exit."""
        try:
            unmount(f"{bundle}/root")
        finally:
            _remove(bundle)

    def detached(self, image: Image, layer: Path | None = None) -> int:
        """Return a descriptor of a root that is mounted nowhere, for a mount namespace to attach. It ends with its
        last descriptor. Raises OSError.
        """
        with self._with_layer(image, layer) as layers:
            return detached_overlay(layers)

    def close(self) -> None:
        """Close the layers."""
        with self._lock:
            opened, self._opened = self._opened, {}
        for layers in opened.values():
            for fd in layers:
                os.close(fd)

    @contextlib.contextmanager
    def _with_layer(self, image: Image, layer: Path | None) -> Iterator[tuple[int, ...]]:
        """Yield the layers of a root, topmost first: the devices, the packages, the image's own. Raises OSError.

        The overlay keeps them by itself: the descriptor of a layer of packages is needed until it is made.
        """
        devices, *own = self._layers(image)
        if layer is None:
            yield (devices, *own)
            return
        fd = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield (devices, fd, *own)
        finally:
            os.close(fd)

    def _layers(self, image: Image) -> tuple[int, ...]:
        with self._lock:
            layers = self._opened.get(image.layers)
            if layers is None:
                layers = self._opened[image.layers] = _open((str(self._devices), *image.layers))
        return layers


def _open(paths: tuple[str, ...]) -> tuple[int, ...]:
    with contextlib.ExitStack() as undo:
        found = []
        for path in paths:
            found.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            undo.callback(os.close, found[-1])
        undo.pop_all()
    return tuple(found)


def _remove(bundle: str) -> None:
    for name in ("pid", "config.json"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{bundle}/{name}")
    with contextlib.suppress(FileNotFoundError):  # it may not have come to that
        os.rmdir(f"{bundle}/root")
    os.rmdir(bundle)

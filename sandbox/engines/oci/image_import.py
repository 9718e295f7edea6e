"""Images that were made elsewhere: a root file system, an OCI image layout, or an archive, as overlay layers.

A layout or archive is unpacked once, into a directory named after its digest: one directory a layer, with what a
layer deletes turned into what overlay mounts know (OCI image specification, layer.md; kernel, overlayfs.rst).
`tar` does the unpacking: it stays beneath its directory for any names in an archive.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from sandbox.engines import EngineError
from sandbox.images import Image
from sandbox.layer_digest import hash_tree

WHITEOUT, OPAQUE_MARK = ".wh.", ".wh..wh..opq"
OPAQUE = "trusted.overlay.opaque"
PLATFORM = ("linux", "amd64")
#: Of descriptors that name further manifests.
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


def import_image(language: str, where: Path, store: Path) -> Image:
    """Return the image at `where`, unpacked beneath `store` if necessary. Raises EngineError, OSError."""
    if not where.exists():
        raise EngineError("no such file or directory")
    if not where.is_dir():
        return _import_archive(language, where, store)
    if (where / "oci-layout").exists():
        return _import_layers(language, where, store)
    return _root(language, where.resolve())


def _root(language: str, root: Path) -> Image:
    if not (root / "usr").is_dir():
        raise EngineError("is neither a root file system nor an OCI image layout")
    return Image(language, f"sha256:{hash_tree(root).digest}", (str(root),))


def _import_archive(language: str, archive: Path, store: Path) -> Image:
    """Import an archive of an OCI layout, of `docker save` or of a root file system, as its top level shows."""
    store.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as scratch:
        content = Path(scratch)
        _unpack(archive, content)
        if (content / "oci-layout").exists() or (content / "manifest.json").exists():
            return _import_layers(language, content, store)
        content.chmod(0o755)
        image = _root(language, content)
        place = store / image.digest.removeprefix("sha256:")
        if not place.exists():
            shutil.move(content, place)
            content.mkdir()  # for the end of the block
        return Image(language, image.digest, (str(place),))


def _import_layers(language: str, layout: Path, store: Path) -> Image:
    read = _docker_layers if (layout / "manifest.json").exists() else _layout_layers
    try:
        digest, blobs = read(layout)
    except (LookupError, TypeError, AttributeError) as e:
        raise EngineError("its manifest is not one of an image") from e
    place = store / digest.removeprefix("sha256:")
    if not place.exists():
        store.mkdir(mode=0o755, parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=store))
        try:
            building.chmod(0o755)
            for number, blob in enumerate(blobs):
                layer = building / str(number)
                layer.mkdir(mode=0o755)
                _unpack(blob, layer)
                _translate(layer)
            os.rename(building, place)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
    return Image(language, digest, tuple(str(place / str(n)) for n in reversed(range(len(blobs)))))


def _docker_layers(folder: Path) -> tuple[str, list[Path]]:
    """Return the image's id and its layers, the lowest first, from the files of `docker save`."""
    manifests = _read(folder / "manifest.json")
    if not isinstance(manifests, list) or len(manifests) != 1:
        raise EngineError("must hold one image")
    names = [manifests[0]["Config"], *manifests[0]["Layers"]]
    config, *layers = (_beneath(folder, name) for name in names)
    return f"sha256:{hashlib.sha256(config.read_bytes()).hexdigest()}", layers


def _layout_layers(folder: Path) -> tuple[str, list[Path]]:
    """Return the manifest's digest and the layers, the lowest first, of an OCI image layout."""
    descriptor = _one(_read(folder / "index.json"))
    if descriptor.get("mediaType") in INDEX_TYPES:
        descriptor = _one(_read(_blob(folder, descriptor)))
    manifest = _read(_blob(folder, descriptor))
    return descriptor["digest"], [_blob(folder, layer) for layer in manifest["layers"]]


def _one(index: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
    """Return the manifest for this machine from an index; one without a platform counts as such."""
    found = []
    for descriptor in index.get("manifests", ()):
        platform = descriptor.get("platform") or {}
        if not platform or (platform.get("os"), platform.get("architecture")) == PLATFORM:
            found.append(descriptor)
    if len(found) != 1:
        raise EngineError(f"must hold one image for linux/amd64; it holds {len(found)}")
    return dict(found[0])


def _blob(folder: Path, descriptor: dict[str, Any]) -> Path:
    kind, _, value = str(descriptor["digest"]).partition(":")
    if not (kind.isalnum() and value.isalnum()):
        raise EngineError("holds a malformed digest")
    return folder.joinpath("blobs", kind, value)


def _beneath(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise EngineError("names a file outside of itself")
    return path


def _read(path: Path) -> Any:  # noqa: ANN401  # JSON
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise EngineError(f"{path.name} cannot be read: {e}") from e


def _unpack(archive: Path, target: Path) -> None:
    if not tarfile.is_tarfile(archive):
        raise EngineError(f"{archive.name} is no archive that can be read")
    argv = ["tar", "--extract", f"--file={archive}", f"--directory={target}"]
    argv += ["--numeric-owner", "--preserve-permissions"]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise EngineError(f"{archive.name} cannot be unpacked: {done.stderr.strip()[-300:]}")


def _translate(layer: Path) -> None:
    """Turn a layer's marks of deletion into those of overlay mounts."""
    for folder, _, names in os.walk(layer):
        for name in names:
            if not name.startswith(WHITEOUT):
                continue
            mark = os.path.join(folder, name)
            os.unlink(mark)
            if name == OPAQUE_MARK:
                os.setxattr(folder, OPAQUE, b"y")
            else:
                os.mknod(os.path.join(folder, name.removeprefix(WHITEOUT)), stat.S_IFCHR, os.makedev(0, 0))

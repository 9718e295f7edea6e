"""An image's layers as the archive that `docker load` takes.

A layer on disk is a directory as overlay mounts want it: what is deleted from the layers beneath is a character
device 0/0, a directory that hides theirs has the attribute `trusted.overlay.opaque`. In an image layer these are
`.wh.NAME` and `.wh..wh..opq` (OCI image specification, layer.md). The archive is written as it is read, one
layer's tar at a time on disk, since its hash must be known before it is sent to the daemon.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sandbox.images import Image

CHUNK_BYTES = 1 << 20
OPAQUE = "trusted.overlay.opaque"
#: Labels of an image: its kind, for `docker image prune --filter`, and the digest over its content.
LABEL_LANGUAGE, LABEL_DIGEST = "dev.runyard.language", "dev.runyard.image"


def archive_of(image: Image, reference: str, scratch: Path) -> Iterator[bytes]:
    """Yield the archive in pieces. `scratch` is a directory for a layer's temporary tar file."""
    layer_names, digests = [], []
    for layer in reversed(image.layers):  # an image names the lowest first
        with tempfile.TemporaryFile(dir=scratch) as spool:
            digest, size = write_layer(Path(layer), spool)
            name = f"{digest}.tar"
            if digest not in digests:
                yield from _member(name, spool, size)
            layer_names.append(name)
            digests.append(digest)
    config = _config(image, digests)
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    yield from _member(config_name, io.BytesIO(config), len(config))
    manifest = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": layer_names}]).encode()
    yield from _member("manifest.json", io.BytesIO(manifest), len(manifest))
    yield bytes(2 * tarfile.BLOCKSIZE)


def write_layer(layer: Path, target: IO[bytes]) -> tuple[str, int]:
    """Write a layer's tar, the same bytes for the same content; its SHA-256 and its size."""
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add_directory(tar, str(layer), "")
    size = target.tell()
    target.seek(0)
    digest = hashlib.file_digest(target, "sha256").hexdigest()  # type: ignore[arg-type]  # any readable file
    target.seek(0)
    return digest, size


def _add_directory(tar: tarfile.TarFile, path: str, prefix: str) -> None:
    with os.scandir(path) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        info = entry.stat(follow_symlinks=False)
        name = prefix + entry.name
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            tar.addfile(_marker(f"{prefix}.wh.{entry.name}"))
            continue
        if stat.S_ISSOCK(info.st_mode):  # which no archive can hold and no image needs
            continue
        _add(tar, entry.path, name)
        if stat.S_ISDIR(info.st_mode):
            if _is_opaque(entry.path):
                tar.addfile(_marker(f"{name}/.wh..wh..opq"))
            _add_directory(tar, entry.path, name + "/")


def _add(tar: tarfile.TarFile, path: str, name: str) -> None:
    member = tar.gettarinfo(path, name)
    member.uname = member.gname = ""
    # Whole seconds: a tar of the same tree is the same, and no byte code in an image looks at the rest.
    member.mtime = int(member.mtime)
    if member.isreg():
        with open(path, "rb") as content:
            tar.addfile(member, content)
    else:
        tar.addfile(member)


def _marker(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    return member


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _config(image: Image, digests: list[str]) -> bytes:
    """Return the image's configuration, and the digest by which a run names the image."""
    config: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {LABEL_LANGUAGE: image.language, LABEL_DIGEST: image.digest}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    return json.dumps(config, sort_keys=True).encode()


def _member(name: str, content: IO[bytes], size: int) -> Iterator[bytes]:
    """Return one file of the outer archive."""
    member = tarfile.TarInfo(name)
    member.size = size
    yield member.tobuf(tarfile.USTAR_FORMAT)
    while piece := content.read(CHUNK_BYTES):
        yield piece
    if rest := size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - rest)

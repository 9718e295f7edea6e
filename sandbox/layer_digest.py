"""The digest of what a layer holds: a hash over a manifest of every path in it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

OPAQUE = "trusted.overlay.opaque"


@dataclass(frozen=True, slots=True)
class LayerDigest:
    """`digest` (64 hexadecimal digits) and the sum of the sizes of the files."""

    digest: str
    size_bytes: int


def hash_tree(root: Path) -> LayerDigest:
    """Hash and size of everything beneath `root`: path, type, mode, owner, size, and the bytes or the target."""
    entries = list(_walk(str(root), ""))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as threads:
        lines = threads.map(lambda entry: _line(*entry), entries, chunksize=64)
        whole = hashlib.sha256()
        for line in lines:
            whole.update(line)
    sizes = (info.st_size for _, _, info in entries if stat.S_ISREG(info.st_mode))
    return LayerDigest(whole.hexdigest(), sum(sizes))


def _walk(root: str, prefix: str) -> Iterator[tuple[str, str, os.stat_result]]:
    with os.scandir(root) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{prefix}{entry.name}"
        info = entry.stat(follow_symlinks=False)
        yield entry.path, name, info
        if stat.S_ISDIR(info.st_mode):
            yield from _walk(entry.path, name + "/")


def _line(path: str, name: str, info: os.stat_result) -> bytes:
    mode = info.st_mode
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            what = f"{info.st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    elif stat.S_ISLNK(mode):
        what = os.readlink(path)
    elif stat.S_ISDIR(mode):
        what = "opaque" if _is_opaque(path) else ""
    else:
        what = str(info.st_rdev)
    return f"{name}\0{mode:o} {info.st_uid}:{info.st_gid} {what}\n".encode("utf-8", "surrogateescape")


def _is_opaque(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.getxattr(path, OPAQUE) == b"y"
    return False

"""Limit reads from the disk of a sandbox's image, by the controller `blkio` (v1) or `io` (v2)."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

SYS = Path("/sys")
MB = 1_000_000
#: So many reads a second for each megabyte: small ones wear a disk out sooner than long ones.
READS_PER_MB = 100
#: File systems without a disk of their own (btrfs, overlay, tmpfs, those of a network) have devices of this number.
NO_DISK = 0


@dataclass(frozen=True, slots=True)
class ReadLimit:
    """`device` is the whole disk's `MAJOR:MINOR`, `node` its path beneath /dev."""

    device: str
    node: str
    bytes_per_s: int

    @property
    def reads_per_s(self) -> int:
        return self.bytes_per_s // MB * READS_PER_MB


def read_limit(directory: Path, mb_per_s: int, sys: Path = SYS) -> ReadLimit | None:
    """Find the disk beneath a directory and what may be read from it; None for no limit, or if there is no disk."""
    if mb_per_s == 0:
        return None
    try:
        # A first start has no images yet: they will lie on the disk of the directory that they will be made in.
        existing = next((place for place in (directory, *directory.parents) if place.exists()), directory)
        number = os.stat(existing).st_dev
        device, node = find_disk(os.major(number), os.minor(number), sys)
    except OSError as e:
        say_unlimited(f"no disk is known beneath {directory}: {e.strerror}")
        return None
    return ReadLimit(device, node, mb_per_s * MB)


def find_disk(major: int, minor: int, sys: Path = SYS) -> tuple[str, str]:
    """Find the number and the node of the whole disk of a file system's device, which may be a partition.

    Volumes of LVM, dm-crypt and md are disks in this sense: the kernel holds a group to a limit on each of them.
    Raises FileNotFoundError where there is none.
    """
    place = (sys / "dev/block" / f"{major}:{minor}").resolve()
    if major == NO_DISK or not place.is_dir():
        raise FileNotFoundError(None, "its file system has no single disk")
    if (place / "partition").exists():
        place = place.parent
    described = dict(line.split("=", 1) for line in (place / "uevent").read_text().splitlines() if "=" in line)
    return (place / "dev").read_text().strip(), f"/dev/{described['DEVNAME']}"


def say_unlimited(reason: str) -> None:
    """Log that sandboxes read from the disk as fast as it gives."""
    log.warning("disk reads of sandboxes are not limited: %s", reason)

"""Free space on the disks of the database and of the files, requested from the kernel for each run or upload."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from api.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    from config.settings import Settings

RETRY_S = 30
SQLITE = "sqlite:///"


class DiskReserve:
    """A number of bytes that stays free on each of some file systems."""

    def __init__(self, places: tuple[Path, ...], reserve_bytes: int) -> None:
        self._places = tuple(str(place) for place in places)
        self._reserve_bytes = reserve_bytes

    @classmethod
    def of(cls, settings: Settings) -> DiskReserve:
        """Return the reserve on the disks that this service writes to itself: not a server's, nor S3's."""
        places = [settings.storage]  # with S3 too: bytes wait there on their way
        if settings.database.startswith(SQLITE):
            places.append(settings.database_file.parent)
        return cls(tuple(places), settings.disk_reserve_bytes)

    def is_there(self) -> bool:
        """Return whether every file system has the reserve free."""
        return all(_free_bytes(place) >= self._reserve_bytes for place in self._places)

    def require(self) -> None:
        """Let new work begin. Raises ApiError 503 where the reserve would be used."""
        if not self.is_there():
            raise ApiError(
                503,
                "The service is short of disk space; nothing was started or stored.",
                code="storage_low",
                retry_after_s=RETRY_S,
            )


def _free_bytes(place: str) -> int:
    try:
        found = os.statvfs(place)
    except OSError:  # the user of the directory reports its problem
        return 2**62
    return found.f_bavail * found.f_frsize

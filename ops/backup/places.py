"""The paths of a service's state, from its settings, and the version. Standard library only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ops.backup.archive import SETTINGS, BackupError
from ops.install import ROOT, InstallError
from ops.installed import SETTINGS as INSTALLED_SETTINGS
from ops.settings import use_service_settings
from ops.state import DEFAULT_STATE_DIR, StatePlace

DEFAULT_UID_BASE = 0x7000_0000
MIGRATIONS = ROOT / "records/sql/migrations/versions"


@dataclass(frozen=True)
class StatePaths:
    """The parts of a state, and the account that the database and the uploads belong to."""

    place: StatePlace
    database: Path
    storage: Path
    #: True if the blobs are in S3 instead of `storage`.
    in_s3: bool
    api_uid: int

    @property
    def home(self) -> Path:
        """Return api's private directory."""
        return self.place.state_dir / "api"

    def settings(self) -> dict[str, Path]:
        """Return the files of settings of this service, by name, whether they are there or not."""
        folder = self.place.state_dir
        if folder == Path(DEFAULT_STATE_DIR).resolve() and INSTALLED_SETTINGS.parent.is_dir():
            folder = INSTALLED_SETTINGS.parent
        return {name: folder / name for name in SETTINGS}


def of_environment() -> StatePaths:
    """Return the paths that the settings name: those of the running service, or of the caller's environment.

    Raises BackupError where the records are not in an SQLite file, or a settings file cannot be used.
    """
    try:
        use_service_settings()
    except InstallError as e:
        raise BackupError(str(e)) from e
    place = StatePlace.of_environment()
    url = os.environ.get("DATABASE_URL", "")
    if url and not url.startswith("sqlite:////"):
        raise BackupError(
            "DATABASE_URL names PostgreSQL, which has its own tools: with the service stopped, save it with "
            "pg_dump --format=custom (pg_restore --clean restores it), and copy STORAGE_DIR and STATE_DIR/api"
        )
    database = Path(unquote(urlsplit(url).path[1:])) if url else place.state_dir / "db/runyard.sqlite"
    storage = Path(os.environ.get("STORAGE_DIR") or place.state_dir / "storage")
    try:
        uid = int(os.environ.get("UID_BASE") or DEFAULT_UID_BASE)
    except ValueError as e:
        raise BackupError("UID_BASE: must be a number") from e
    return StatePaths(place, database, storage.resolve(), bool(os.environ.get("STORAGE_URL")), uid)


def known_revisions() -> list[str]:
    """Return the revisions of the records that this code knows, the oldest first."""
    return sorted(path.name[:4] for path in MIGRATIONS.glob("[0-9][0-9][0-9][0-9]_*.py"))


def is_newer(version: str, other: str) -> bool:
    """Return whether one version is newer than the other: by their numbers, as in 0.10.2."""
    return _numbers(version) > _numbers(other)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,9}", version)]

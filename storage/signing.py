"""The keys that sign links: as they are set, and one made once and kept where none was set at first."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from config.parsers import MIN_SIGNING_KEY_LENGTH
from config.settings import Settings
from storage import beneath
from storage.errors import StorageMisconfigured

log = logging.getLogger(__name__)

FILE = "signing.key"
#: 48 random bytes, 64 characters.
RANDOM_BYTES = 48
MAX_LENGTH = 4096


def signing_keys(settings: Settings) -> tuple[str, ...]:
    """Return the keys of `SIGNING_KEY`, the newest first, then the one kept in api's home. Only for api.

    A key is made where none is set, and none where one is. The stored one continues to verify: links that it has
    signed outlive the first rotation. Raises StorageMisconfigured if it is needed and cannot be read or made.
    """
    given = settings.signing_keys()
    if not given:
        return (kept_key(settings.api_home),)
    kept = _former_key(settings.api_home)
    return given if kept is None or kept in given else (*given, kept)


def _former_key(folder: Path) -> str | None:
    """Return the key kept in `folder`; None if there is none, or none that can be used."""
    if not os.path.lexists(folder / FILE):
        return None
    try:
        found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _read(found)
        finally:
            os.close(found)
    except (OSError, StorageMisconfigured):
        log.warning("the kept %s cannot be read: links signed by it are invalid", FILE)
        return None


def kept_key(folder: Path) -> str:
    """Return the key kept in `folder`, made if there is none. Two processes that make one both get the first."""
    try:
        found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise StorageMisconfigured("SIGNING_KEY: is not set, and there is no place to keep one") from e
    try:
        with suppress(FileNotFoundError):
            return _read(found)
        _make(found)
        return _read(found)
    except OSError as e:
        raise StorageMisconfigured(f"SIGNING_KEY: is not set, and the kept {FILE} cannot be used") from e
    finally:
        os.close(found)


def _read(folder: int) -> str:
    with os.fdopen(beneath.open_file(FILE, folder), "rb") as file:
        key = file.read(MAX_LENGTH).decode("ascii", "replace").strip()
    if len(key) < MIN_SIGNING_KEY_LENGTH or not key.isascii():
        raise StorageMisconfigured(f"SIGNING_KEY: the kept {FILE} is damaged; remove it to have a new one made")
    return key


def _make(folder: int) -> None:
    temporary = f".{FILE}-{secrets.token_hex(8)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | beneath.SAFE, 0o600, dir_fd=folder)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_urlsafe(RANDOM_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # Not by renaming: the first one stays.
        with suppress(FileExistsError):
            os.link(temporary, FILE, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.unlink(temporary, dir_fd=folder)
    os.fsync(folder)

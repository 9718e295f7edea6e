"""A runner's list of Python packages, and whether its lock file was made from it. Standard library only."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

SOURCE = "requirements.in"
LOCK = "requirements.lock"
#: Names the list that a lock file was made from, after its first line.
DIGEST_LINE = "# sha256 of its lines: "
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*==\S+)", re.MULTILINE)


def wanted(folder: Path) -> list[str]:
    """Return the requirements of a runner's list, without comments and empty lines, sorted."""
    lines = (line.partition("#")[0].strip() for line in (folder / SOURCE).read_text().splitlines())
    return sorted(line for line in lines if line)


def list_digest(folder: Path) -> str:
    """Return what names the list's requirements in a lock file; comments and order are no part of it."""
    return hashlib.sha256("\n".join(wanted(folder)).encode()).hexdigest()


def pins(lock: Path) -> list[str]:
    """Return `name==version` for each package of a lock file; nothing if there is none yet."""
    try:
        return PIN.findall(lock.read_text())
    except FileNotFoundError:
        return []


def is_locked(folder: Path) -> bool:
    """Return whether the lock file was made from the current list; true for a runner without a list."""
    if not (folder / SOURCE).exists():
        return True
    try:
        lock = (folder / LOCK).read_text()
    except FileNotFoundError:
        return False
    digests = [line.removeprefix(DIGEST_LINE) for line in lock.splitlines() if line.startswith(DIGEST_LINE)]
    if digests:
        return digests == [list_digest(folder)]
    # Made before lock files named their list: only a missing package can be detected.
    return {_name(line) for line in wanted(folder)} <= {_name(pin) for pin in PIN.findall(lock)}


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found.group().lower() if found else requirement)

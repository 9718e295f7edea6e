"""The tables of docs/packages.md, and names of Python packages as an index compares them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/packages.md"
ROW = re.compile(r"^\| ([\w.-]+) \|(?: `\w+` \|)? ([^|]+) \|$", re.MULTILINE)


def normalized(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def documented_licences() -> dict[str, str]:
    """Return the licence that the page states for each package."""
    return {name: licence for name, licence in ROW.findall(PAGE.read_text()) if name != "library"}

"""The present moment, and how moments are written."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Return the present moment in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(moment_ms: int) -> str:
    """Format a moment as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def now() -> str:
    """Return the present moment as RFC 3339 in UTC with milliseconds."""
    return rfc3339(now_ms())

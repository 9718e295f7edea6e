"""Names and times as the API writes them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from config.ids import new_id

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RUN_ID = re.compile(r"run_[A-Za-z0-9]{24,64}")


def request_id(given: str | None) -> str:
    """The client's own id of this request if it is a sane one, else a new one."""
    return given if given is not None and _REQUEST_ID.fullmatch(given) else new_id("req")


def is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None


def now_ms() -> int:
    """The present moment in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(moment_ms: int) -> str:
    """A moment as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def now() -> str:
    """The present moment as RFC 3339 in UTC with milliseconds."""
    return rfc3339(now_ms())

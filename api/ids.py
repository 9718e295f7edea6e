"""Names and times as the API writes them."""

from __future__ import annotations

import os
import re
import string
from datetime import UTC, datetime

_RANDOM_CHARACTERS = 28
#: 256 bytes onto 62 characters: eight of them are a little likelier, which costs 28 characters no bit of use.
_ALPHABET = (string.ascii_letters + string.digits).encode()
_TO_ALPHABET = bytes(_ALPHABET[i % len(_ALPHABET)] for i in range(256))

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RUN_ID = re.compile(r"run_[A-Za-z0-9]{24,64}")


def new_id(prefix: str) -> str:
    """`prefix_` and 28 random characters."""
    return f"{prefix}_{os.urandom(_RANDOM_CHARACTERS).translate(_TO_ALPHABET).decode()}"


def request_id(given: str | None) -> str:
    """The client's own id of this request if it is a sane one, else a new one."""
    return given if given is not None and _REQUEST_ID.fullmatch(given) else new_id("req")


def is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None


def now() -> str:
    """The present moment as RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"

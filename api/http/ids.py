"""Names of requests and runs as the API takes them."""

from __future__ import annotations

import re

from config.ids import new_id

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RUN_ID = re.compile(r"run_[A-Za-z0-9]{24,64}")
#: No id of ours is longer: the rest of a longer text is not looked for in the records.
MAX_ID = 100


def request_id(given: str | None) -> str:
    """Return the client's own request id if it is well-formed, else a new one."""
    return given if given is not None and _REQUEST_ID.fullmatch(given) else new_id("req")


def bounded(text: str) -> str:
    """Return an id cut to the length of a lookup key, however long the text is."""
    return text[:MAX_ID]


def is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None

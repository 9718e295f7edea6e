"""Links of this service to itself: how a client reached it, and the next page of a list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

#: What may stand in a link as the host a client has asked; anything else is not repeated.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)


def origin(scheme: str, host: str) -> str | None:
    """Return the scheme and host by which a client reached this service; None if the host must not be repeated."""
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else None


def next_link(base: str | None, path: str, arguments: MultiDict[str, str], after: str) -> str:
    """Return the link to the page after an id, with all other parameters of the query as they were given."""
    kept = [(name, value) for name, value in arguments.items(multi=True) if name != "after"]
    return f"{base or ''}{path}?{urlencode([*kept, ('after', after)], errors='replace')}"

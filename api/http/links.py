"""Make links of this service to itself: to the next page of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict


def next_link(base: str | None, path: str, arguments: MultiDict[str, str], after: str) -> str:
    """Return the link to the page after an id, with all other parameters of the query as they were given."""
    kept = [(name, value) for name, value in arguments.items(multi=True) if name != "after"]
    return f"{base or ''}{path}?{urlencode([*kept, ('after', after)], errors='replace')}"

"""List sessions for callers that page and name them in another way than `/v1/sessions` does."""

from __future__ import annotations

from typing import Any

from api.context import context
from api.errors import invalid
from records.errors import UnknownCursor
from records.sessions import SessionFilter


def page_of(
    owner: str, *, limit: int, after: str | None = None, live: bool | None = None, name: str | None = None
) -> tuple[list[dict[str, Any]], bool]:
    """Return the newest session objects of an owner, and whether there are more. Raises ApiError 400 or 503."""
    try:
        wanted = SessionFilter(live=live, name=name)
        page = context().records.sessions.list(owner, limit=limit, after=after, wanted=wanted)
    except UnknownCursor as e:
        raise invalid("cursor: is not one of this list", param="cursor", code="invalid_cursor") from e
    return context().sessions.objects(page.items), page.has_more

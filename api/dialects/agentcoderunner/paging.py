"""Read the page that a client asks a list for, and say how it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import request

from api.dialects.agentcoderunner.requests import parse_query
from api.errors import invalid
from api.http.ids import MAX_ID
from api.http.query import parse_int

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LIMIT_DEFAULT, LIMIT_MAX = 20, 100


@dataclass(frozen=True, slots=True)
class AskedPage:
    """A page of a list: so many rows behind the row of that id."""

    limit: int
    after: str | None
    query: Mapping[str, str]


def parse_page(own_id: Callable[[str], str | None]) -> AskedPage:
    """Return the page of this request; `own_id` returns the id that a client's id names. Raises ApiError 400."""
    query = parse_query(request.query_string)
    limit = parse_int(query.get("limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT)
    after = None
    if (cursor := query.get("cursor")) is not None:
        after = own_id(cursor[:MAX_ID])
        if after is None:
            raise invalid("cursor: is not one of this list", param="cursor", code="invalid_cursor")
    return AskedPage(limit, after, query)


def next_cursor(last: str | None) -> dict[str, Any]:
    """Return the fields that say how a list goes on behind a row; None is the end."""
    return {"hasMore": last is not None, "nextCursor": last}

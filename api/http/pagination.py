"""Lists as the API takes and answers them: a page at a time, by a cursor that is the last row's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import orjson

from api.errors import invalid
from api.http.query import parse_int
from api.http.validation import shown_name
from protocol.job import MAX_METADATA
from protocol.states import Status

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

    from records.page import Order

LIMIT_DEFAULT = 20
LIMIT_MAX = 100
STATUSES: tuple[str, ...] = get_args(Status)
MAX_CURSOR = 100
#: The beginning of a parameter that names a metadata entry.
METADATA = "metadata."


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The query of a list; `filters` has those that were given."""

    limit: int
    after: str | None
    order: Order
    filters: dict[str, str]
    #: Values of `metadata.NAME`, by name.
    metadata: dict[str, str]


def parse_list(
    arguments: MultiDict[str, str], filters: tuple[str, ...] = (), *, by_metadata: bool = False
) -> ListQuery:
    """Return the query of a list. Raises ApiError 400 naming the parameter.

    `by_metadata` takes parameters `metadata.NAME`, where NAME is any text: all that follows the first dot.
    """
    known = ("limit", "after", "order", *filters, *((METADATA + "NAME",) if by_metadata else ()))
    given = _once(arguments, known)
    metadata = {name[len(METADATA) :]: given.pop(name) for name in [*given] if name.startswith(METADATA)}
    if len(metadata) > MAX_METADATA:
        raise invalid(f"metadata: {len(metadata)} names, the maximum is {MAX_METADATA}", code="too_many")
    order = given.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order: must be asc or desc", param="order")
    after = given.get("after")
    if after is not None and not 0 < len(after) <= MAX_CURSOR:
        raise invalid("after: is not an id of this list", param="after", code="invalid_cursor")
    return ListQuery(
        parse_int(given.get("limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT),
        after,
        "asc" if order == "asc" else "desc",
        {name: given[name] for name in filters if name in given},
        metadata,
    )


def parse_status(status: str | None) -> str | None:
    """Return the status to filter by. Raises ApiError 400."""
    if status is not None and status not in STATUSES:
        raise invalid(f"status: must be one of {', '.join(STATUSES)}", param="status")
    return status


def parse_include(arguments: MultiDict[str, str]) -> bool:
    """Return whether the answer must include the request of the run. Raises ApiError 400."""
    include = _once(arguments, ("include",)).get("include")
    if include not in (None, "request"):
        raise invalid("include: must be request", param="include")
    return include is not None


def list_ends(ids: list[str], *, has_more: bool, next_url: str | None) -> tuple[bytes, bytes]:
    """Return what stands before and behind the objects of a page, which have commas between them."""
    nothing = [(an_id, None) for an_id in ids]
    before, _, behind = list_body(nothing, has_more=has_more, next_url=next_url).partition(
        orjson.dumps([None] * len(ids))
    )
    return before + b"[", b"]" + behind


def list_body(rows: list[tuple[str, Any]], *, has_more: bool, next_url: str | None) -> bytes:
    """Return a page as JSON, made of (id, object) pairs."""
    return orjson.dumps(
        {
            "object": "list",
            "data": [row for _, row in rows],
            "first_id": rows[0][0] if rows else None,
            "last_id": rows[-1][0] if rows else None,
            "has_more": has_more,
            "next": next_url,
        }
    )


def _once(arguments: MultiDict[str, str], known: tuple[str, ...]) -> dict[str, str]:
    by_metadata = METADATA + "NAME" in known
    for name, values in arguments.lists():
        if name not in known and not (by_metadata and name.startswith(METADATA)):
            raise invalid(
                f"the query has an unknown parameter; supported: {', '.join(known)}", code="unknown_field"
            )
        if len(values) > 1:
            raise invalid(f"{shown_name(name)}: is given twice", param=shown_name(name))
    return arguments.to_dict()

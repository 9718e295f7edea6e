"""Look up runs for callers that page and name them in another way than `/v1/runs` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from api.context import context
from api.errors import invalid
from api.http.concurrency import nothing
from api.http.ids import is_run_id
from api.runs.stored_outputs import is_in_parts
from records.errors import UnknownCursor
from records.runs import RunFilter

if TYPE_CHECKING:
    from collections.abc import Callable


def page_of(
    owner: str, *, limit: int, after: str | None = None, session_id: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the newest run documents of an owner, and the `after` of the next page.

    Outputs that are in storage are empty. Raises ApiError 400, 429 or 503.
    """
    release = context().places.readers.acquire(owner)
    try:
        wanted = RunFilter(owner=owner, session_id=session_id)
        page = context().records.runs.search(wanted, limit=limit, after=after)
        return [orjson.loads(run.document) for run in page.items], page.cursor
    except UnknownCursor as e:
        raise invalid("cursor: is not one of this list", param="cursor", code="invalid_cursor") from e
    finally:
        release()


def document_of(owner: str, run_id: str) -> tuple[dict[str, Any], Callable[[], None]] | None:
    """Return the whole document of a run of an owner, and what gives up the place held for it; None for no run.

    Raises ApiError 429 or 503, and the errors of a storage that is unavailable.
    """
    run = context().records.runs.get(owner, run_id) if is_run_id(run_id) else None
    if run is None:
        return None
    release = context().places.readers.acquire(owner) if is_in_parts(run.document) else nothing
    try:
        return orjson.loads(context().outputs.whole(run).document), release
    except BaseException:
        release()
        raise

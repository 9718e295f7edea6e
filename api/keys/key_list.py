"""One list of static and stored keys: the static ones stand before the newest stored key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from records.page import RecordPage

if TYPE_CHECKING:
    from api.http.pagination import ListQuery
    from api.keys.authentication import Caller
    from records.keys import KeyStore, StoredKey


def key_page(static: tuple[Caller, ...], store: KeyStore, asked: ListQuery) -> RecordPage[Caller | StoredKey]:
    """Return one page of all keys. Raises UnknownCursor and RecordsUnavailable."""
    ids = [caller.id for caller in static]
    if asked.order == "asc":
        return _oldest_first(static, store, asked, ids)
    found: list[Caller | StoredKey] = []
    after = asked.after
    if after is None or after in ids:
        found += static[ids.index(after) + 1 if after is not None else 0 :][: asked.limit]
        after = None
    if len(found) == asked.limit:
        is_last = not ids or found[-1].id == ids[-1]
        return RecordPage(tuple(found), has_more=not is_last or bool(store.list(limit=1).items))
    page = store.list(limit=asked.limit - len(found), after=after)
    return RecordPage((*found, *page.items), page.has_more)


def _oldest_first(
    static: tuple[Caller, ...], store: KeyStore, asked: ListQuery, ids: list[str]
) -> RecordPage[Caller | StoredKey]:
    backwards = static[::-1]
    if asked.after in ids:
        rest = backwards[[*reversed(ids)].index(asked.after) + 1 :]
        return RecordPage(rest[: asked.limit], len(rest) > asked.limit)
    page = store.list(limit=asked.limit, after=asked.after, order="asc")
    if page.has_more:
        return RecordPage(page.items, has_more=True)
    room = asked.limit - len(page.items)
    return RecordPage((*page.items, *backwards[:room]), len(backwards) > room)

"""Find the key of agent-coderunner's requests: in either header, or in the query, which is in no log."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from flask import request

from api.context import context
from api.dialects.caller import require_dialect_caller, require_own_key
from api.keys.authentication import authorization_of, unauthorized

if TYPE_CHECKING:
    from api.keys.authentication import Caller

_PARAMETER = "key="


def key_in_query(query: str) -> str | None:
    """Return the `key` of a raw query, its first one; None without one."""
    if _PARAMETER not in query:
        return None
    for pair in query.split("&"):
        if pair.startswith(_PARAMETER):
            return unquote_plus(pair[len(_PARAMETER) :])
    return None


def require_caller_or_address(*, reading: bool = False) -> Caller:
    """Return the caller of an execution, with a key or without. Raises ApiError 401, 403 or 429."""
    return require_dialect_caller(reading=reading, key=_key_in_query())


def require_key(subject: str, *, reading: bool) -> Caller:
    """Return the caller of a call that needs a key; `subject` says which calls those are.

    Raises ApiError 401, 403 or 429.
    """
    key = _key_in_query()
    headers = request.headers
    if authorization_of(headers.get("Authorization"), headers.get("X-API-Key", key)) is None:
        hint = "POST /api/keys makes one" if context().settings.self_service else "ask the operator for one"
        message = f"{subject} need a key ({hint}): send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'."
        raise unauthorized(message, "missing_token")
    return require_own_key(reading=reading, key=key)


def _key_in_query() -> str | None:
    return key_in_query(request.query_string.decode("latin-1"))

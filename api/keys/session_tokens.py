"""Tokens of one session: `st_`, the session's id without its prefix, and a MAC that says that this service made it.

A token follows from SIGNING_KEY and the id, so nothing is stored, and asking again gives the same. It is good while
its session lives and the key that the session belongs to is in force.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "st_"
SALT = b"runyard/session-token/v1\0"
_FORM = re.compile(r"st_([a-z2-7]{26})_([0-9a-f]{64})")


class SessionTokens:
    """Makes and judges tokens. `keys` are the newest first: that one makes them, all judge."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(key.encode() for key in keys)

    def make(self, session_id: str) -> str:
        """Return the token of a session."""
        return f"{PREFIX}{session_id.removeprefix('sess_')}_{_mac(self._keys[0], session_id)}"

    def session_of(self, token: str) -> str | None:
        """Return the id of the session that a token is for; None for a token that this service has not made."""
        found = _FORM.fullmatch(token)
        if found is None:
            return None
        session_id = f"sess_{found[1]}"
        good = False
        for key in self._keys:
            good |= hmac.compare_digest(_mac(key, session_id), found[2])
        return session_id if good else None


def _mac(key: bytes, session_id: str) -> str:
    return hmac.new(key, SALT + session_id.encode(), hashlib.sha256).hexdigest()

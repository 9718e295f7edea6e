"""Signed links: an address that opens one file for a limited time, without further credentials.

`BASE/v1/files/ID/content?token=…`; the token is `[ID, expiry]` (seconds since the epoch) as JSON, signed with
HMAC-SHA-256 by itsdangerous. The key is derived for this purpose alone, so nothing signed for another opens a
file.

The newest key signs and every valid key verifies. A token has many spellings that verify, so its text is no
key for a cache, a replay list or an audit; the file's id is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from itsdangerous import BadData, URLSafeSerializer

from storage.errors import LinkExpired, LinkInvalid

SALT = "runyard/file-content/v1"
#: An id and a number, signed, are well below it; what is longer is not even decoded.
MAX_TOKEN_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it is shown in a reply."""

    url: str
    expires_at: datetime


class Links:
    """Makes and judges the links of this service."""

    def __init__(
        self, keys: Sequence[str], *, base_url: str, ttl_s: int, now: Callable[[], float] = time.time
    ) -> None:
        """`keys` are the newest first; `base_url` has no slash at its end."""
        if not keys:
            raise ValueError("links need a key")
        self._base_url = base_url
        self._ttl_s = ttl_s
        self._now = now
        self._serializer = URLSafeSerializer(
            list(reversed(keys)),  # itsdangerous has the newest last
            salt=SALT,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def make(self, file_id: str, *, base_url: str | None = None, until_s: float | None = None) -> Link | None:
        """Return a link to a file, valid for the time set, but not beyond `until_s` (seconds since the epoch).

        `base_url` replaces the one set. None where that moment has passed.
        """
        now = self._now()
        expires = int(now) + self._ttl_s
        if until_s is not None:
            expires = min(expires, int(until_s))
        if expires <= now:
            return None
        token = self._serializer.dumps([file_id, expires])
        text = token if isinstance(token, str) else token.decode("ascii")
        url = f"{base_url or self._base_url}/v1/files/{quote(file_id, safe='')}/content?token={text}"
        return Link(url, datetime.fromtimestamp(expires, UTC))

    def verify(self, file_id: str, token: str) -> int:
        """Return the seconds for which the token is still valid, at least 1. Raises LinkInvalid or LinkExpired."""
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise LinkInvalid
        try:
            payload = self._serializer.loads(token)
        except BadData as e:
            raise LinkInvalid from e
        match payload:
            case [str(signed_id), int(expires)] if signed_id == file_id:
                left = expires - int(self._now())
            case _:
                raise LinkInvalid
        if left <= 0:
            raise LinkExpired
        return left

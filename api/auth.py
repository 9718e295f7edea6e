"""Who calls: bearer tokens, the keys they stand for, and each key's buckets."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.errors import ApiError
from api.ratelimit import Decision, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from config.settings import ApiKey

#: Reading has a bucket of its own, ten times as wide.
READ_FACTOR = 10
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="runyard"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that was recognised. `id` names its runs; it is told from the token and cannot be turned back."""

    id: str
    label: str
    runs: TokenBucket
    reads: TokenBucket

    def spend(self, *, reading: bool) -> Decision:
        """Take a token of the right bucket."""
        return (self.reads if reading else self.runs).spend()


class Authenticator:
    """The static keys. Tokens are held and compared as digests, all of them each time."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._callers = [(_digest(key.token.encode()), _caller(key)) for key in keys]

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller of an `Authorization` header. Raises ApiError 401."""
        if not authorization:
            raise _unauthorized("Give a token: 'Authorization: Bearer <token>'.", "missing_token")
        scheme, _, token = authorization.partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token or " " in token:
            raise _unauthorized("The header must be 'Authorization: Bearer <token>'.", "malformed_token")
        # Headers arrive as latin-1 text, whatever bytes they were.
        given = _digest(token.encode("utf-8", "surrogatepass"))
        found = None
        for digest, caller in self._callers:
            if hmac.compare_digest(digest, given):
                found = caller
        if found is None:
            raise _unauthorized("This token is not known here.", "invalid_token")
        return found


def _caller(key: ApiKey) -> Caller:
    digest = hashlib.sha256(b"runyard key id:" + key.token.encode())
    return Caller(
        id=f"key_{digest.hexdigest()[:24]}",
        label=key.label,
        runs=TokenBucket(key.rps, key.burst),
        reads=TokenBucket(key.rps * READ_FACTOR, key.burst * READ_FACTOR),
    )


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _unauthorized(message: str, code: str) -> ApiError:
    return ApiError(401, message, code=code, headers=_CHALLENGE)

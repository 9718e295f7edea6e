"""Authenticate callers: bearer tokens and their keys, static (`API_KEYS`) or stored.

A stored key's row is read for every request, so that a key that was disabled, revoked or given another plan is that
at once in every process. A token that is none costs no such read: it lacks the form and checksum of one
(`api.keys.key_format`), or is remembered as unknown, or its address has asked too often.
"""

from __future__ import annotations

import hmac
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from api.errors import ApiError
from api.keys.key_format import digest, is_well_formed
from api.keys.session_tokens import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from api.keys.plans import Plan, Plans
    from api.keys.session_tokens import SessionTokens
    from api.ratelimit.bucket import Bucket
    from records.keys import KeyStore, StoredKey

log = logging.getLogger(__name__)

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="runyard"'}
#: Tokens remembered, those that are unknown and those that were good: 64 bytes each, about.
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that was recognised. `id` names its runs; it cannot be turned back into the token."""

    id: str
    label: str
    runs: Bucket
    reads: Bucket
    #: None for a static key, which has the service's own bounds.
    plan: Plan | None = None
    stored: StoredKey | None = None
    #: Of the token that was given; a rotated key has two for a while.
    digest: bytes = b""
    #: The one session whose calls the token is for; None for a key.
    session: str | None = None

    @property
    def is_anonymous(self) -> bool:
        """Return whether this caller is an address without a key: it has a plan, and cannot fetch files later."""
        return self.plan is not None and self.stored is None


class Authenticator:
    """The valid keys. Tokens are stored and compared as digests, all static ones each time."""

    def __init__(
        self,
        static: Iterable[tuple[bytes, Caller]],
        store: KeyStore,
        plans: Plans,
        *,
        session_tokens: SessionTokens | None = None,
        session_owner: Callable[[str], str | None] = lambda _id: None,
    ) -> None:
        """Take the static keys by the digests of their tokens (`api.keys.static_keys`).

        `session_owner` returns whose a live session is, for the tokens of sessions.
        """
        self._session_tokens = session_tokens
        self._session_owner = session_owner
        self._static = list(static)
        self._store = store
        self._plans = plans
        self._unknown = _LruSet(REMEMBERED)
        self._good = _LruSet(REMEMBERED)

    def authenticate(
        self, authorization: str | None, *, may_ask: Callable[[], bool] = lambda: True, disabled_too: bool = False
    ) -> Caller:
        """Return the caller of an `Authorization` header. Raises ApiError 401, or 403 for a plan that no longer
        exists.

        `may_ask` returns whether an unknown token may be looked up in the database; if not, the token is rejected
        with 429. `disabled_too` accepts a disabled key.
        """
        token = bearer_token(authorization)
        if token.startswith(PREFIX):
            return self._of_session(token)
        given = digest(token)
        found = None
        for kept, caller in self._static:
            if hmac.compare_digest(kept, given):
                found = caller
        if found is not None:
            return found
        if not is_well_formed(token) or given in self._unknown:
            raise unknown_token()
        if given not in self._good and not may_ask():
            raise ApiError(429, "Too many wrong tokens from this address.", code="rate_limit_exceeded")
        return self._stored(given, disabled_too=disabled_too)

    def recognised(self, authorization: str | None) -> bytes | None:
        """Return the owner for resource sharing if the token is valid, or was when last used; else None.

        The database is not asked: the result names the likely owner of a request and authenticates nobody.
        """
        try:
            token = bearer_token(authorization)
        except ApiError:
            return None
        if token.startswith(PREFIX):
            session_id = None if self._session_tokens is None else self._session_tokens.session_of(token)
            return None if session_id is None else session_id.encode()
        given = digest(token)
        for kept, caller in self._static:
            if hmac.compare_digest(kept, given):
                return caller.id.encode()
        return given if given in self._good else None

    def _of_session(self, token: str) -> Caller:
        """Return the caller that a session's token stands for, if the session lives and its key is in force."""
        session_id = None if self._session_tokens is None else self._session_tokens.session_of(token)
        owner = None if session_id is None else self._session_owner(session_id)
        if session_id is None or owner is None:
            raise unknown_token()
        for _, caller in self._static:
            if caller.id == owner:
                return replace(caller, session=session_id)
        key = self._store.get(owner)
        if key is None or key.disabled or key.revoked_at_ms is not None:
            raise unknown_token()
        return replace(self.caller_of(key), session=session_id)

    def _stored(self, given: bytes, *, disabled_too: bool) -> Caller:
        key = self._store.find(given)
        if key is None:
            self._good.forget(given)
            self._unknown.add(given)
            raise unknown_token()
        if key.disabled and not disabled_too:
            raise unauthorized("This key is disabled.", code="disabled_key")
        self._good.add(given)
        return self.caller_of(key, given)

    def caller_of(self, key: StoredKey, digest: bytes = b"") -> Caller:
        """Return the caller that a stored key is. Raises ApiError 403 for a plan that no longer exists."""
        plan = self._plans.get(key.plan)
        if plan is None:
            log.error("a key's plan is not in PLANS_FILE", extra={"key": key.id, "plan": key.plan[:64]})
            raise ApiError(403, "The plan of this key no longer exists: ask the operator.", code="unknown_plan")
        return Caller(key.id, key.label, plan.bucket, plan.reads, plan, key, digest)


class _LruSet:
    """Digests, the latest so many. Safe for many threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def add(self, digest: bytes) -> None:
        """Remember it; without effect if it is."""
        if digest in self._digests:
            return
        with self._lock:
            self._digests[digest] = None
            if len(self._digests) > self._most:
                self._digests.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """Remove a digest from the cache: its key has changed."""
        self._digests.pop(digest, None)


class AdminAuthenticator:
    """The one token of the admin calls."""

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else digest(token)

    def check(self, authorization: str | None) -> None:
        """Check the admin's token. Raises ApiError 401 if it is wrong, and 403 where none is set."""
        if self._digest is None:
            raise ApiError(
                403, "Admin calls are off: the operator turns them on by setting ADMIN_TOKEN.", code="admin_off"
            )
        given = digest(bearer_token(authorization))
        if not hmac.compare_digest(self._digest, given):
            raise unauthorized("This is not the admin token.", "invalid_token")

    def recognised(self, authorization: str | None) -> bytes | None:
        """Return the owner for resource sharing of the admin's requests; None for any other token."""
        try:
            self.check(authorization)
        except ApiError:
            return None
        return self._digest


def authorization_of(authorization: str | None, api_key: str | None) -> str | None:
    """Return the `Authorization` header, or what it would be for the `X-API-Key`; None without both.

    A header that is a bare key, without a scheme, counts as `Bearer`: clients of other services send it.
    """
    given = api_key if authorization is None else authorization
    if given is None or (authorization is not None and " " in given.strip()):
        return given
    return f"Bearer {given.strip()}"


def bearer_token(authorization: str | None) -> str:
    """Return the token of an `Authorization` header. Raises ApiError 401."""
    if not authorization:
        raise unauthorized("Missing token: send 'Authorization: Bearer <token>'.", "missing_token")
    scheme, _, token = authorization.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token or " " in token:
        raise unauthorized("The header must be 'Authorization: Bearer <token>'.", "malformed_token")
    return token


def unknown_token() -> ApiError:
    """Return the error for every invalid token: the same for all, so that they cannot be distinguished."""
    return unauthorized("Invalid token.", "invalid_token")


def unauthorized(message: str, code: str) -> ApiError:
    """Return a 401 with its challenge."""
    return ApiError(401, message, code=code, headers=_CHALLENGE)

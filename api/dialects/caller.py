"""Find the caller of a dialect's route: by its key, or without one where the operator allows that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request

from api.context import charge, client, context, require_caller
from api.errors import ApiError
from api.keys.anonymous import anonymous_id
from api.keys.authentication import Caller, authorization_of, unauthorized
from api.keys.plans import ANONYMOUS
from api.ratelimit.client_address import limited_as

if TYPE_CHECKING:
    from api.context import Context


def require_dialect_caller(*, reading: bool = False, key: str | None = None) -> Caller:
    """Return the caller, after taking a token from the right bucket. Raises ApiError 401, 403 or 429.

    A key may be sent as bearer token or as `X-API-Key`; `key` is one that the dialect found elsewhere. A request
    without one is served where self-service is on (plan `anonymous`, counted by address), or charged to the key
    that DIALECT_KEY names.
    """
    authorization = _authorization(key)
    if authorization is not None:
        return require_caller(reading=reading, authorization=authorization)
    caller = _anonymous() or _charged()
    if caller is None:
        raise _missing()
    charge(caller, reading=reading)
    return caller


def require_own_key(*, reading: bool, key: str | None = None) -> Caller:
    """Return the caller of a request that must have a key: what it leaves behind is found again by that key alone.

    `key` is one that the dialect found elsewhere than in the headers. Raises ApiError 401, 403 or 429.
    """
    authorization = _authorization(key)
    if authorization is None:
        raise _missing()
    return require_caller(reading=reading, authorization=authorization)


def serves_without_key(found: Context) -> bool:
    """Return whether requests without a key are served."""
    settings = found.settings
    return settings.dialect_key is not None or (settings.self_service and ANONYMOUS in found.plans)


def _authorization(key: str | None) -> str | None:
    headers = request.headers
    return authorization_of(headers.get("Authorization"), headers.get("X-API-Key", key))


def _missing() -> ApiError:
    return unauthorized("Missing key: send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.", "missing_token")


def _anonymous() -> Caller | None:
    found = context()
    plan = found.plans.get(ANONYMOUS)
    if not found.settings.self_service or plan is None:
        return None
    return Caller(anonymous_id(limited_as(client())), ANONYMOUS, plan.bucket, plan.reads, plan)


def _charged() -> Caller | None:
    """Return the caller of the key that DIALECT_KEY names; None if there is no such key in force."""
    found = context()
    key_id = found.settings.dialect_key
    if key_id is None:
        return None
    stored = found.records.keys.get(key_id)
    if stored is None or stored.disabled or stored.revoked_at_ms is not None:
        raise ApiError(401, "Requests without a key are not served at the moment.", code="missing_token")
    return found.authenticator.caller_of(stored)

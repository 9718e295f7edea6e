"""Static keys (`API_KEYS`) and the tenants that they belong to.

The tenant of an entry with a label is that label: entries with one label share rate limit, history and files, and
a token can be replaced without losing them. The tenant of an entry without a label is its token. The id of a tenant
is the owner of its rows. The database maps each label to its owner (`records.tenants`): a label whose token had
runs before keeps that token's owner, so no row has to change.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from api.keys.authentication import Caller
from api.keys.key_format import digest
from api.ratelimit.bucket import Bucket
from api.ratelimit.limiter import READ_FACTOR
from config.settings import SettingsError
from records.tenants import StaticTenant, TenantsWouldMerge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from config.static_keys import ApiKey
    from records.tenants import TenantStore


def static_callers(keys: Sequence[ApiKey], store: TenantStore) -> list[tuple[bytes, Caller]]:
    """Return the callers of the static keys by the digests of their tokens.

    Records the owner of each label that is new. Raises SettingsError where entries would merge tenants that each
    have runs, and RecordsUnavailable.
    """
    labelled: dict[str, list[ApiKey]] = {}
    for key in keys:
        if key.is_labelled:
            labelled.setdefault(key.label, []).append(key)
    wanted = [
        StaticTenant(label, _identity(b"label", label), tuple(_identity(b"id", key.token) for key in entries))
        for label, entries in labelled.items()
    ]
    try:
        owners = store.assign(wanted)
    except TenantsWouldMerge as e:
        raise SettingsError(_conflict(e, labelled[e.label])) from e
    taken = store.owners()
    return [(digest(key.token), _caller(key, _owner(key, owners, taken))) for key in keys]


def distinct_callers(static: Iterable[tuple[bytes, Caller]]) -> tuple[Caller, ...]:
    """Return one caller for each tenant, in the order of the entries."""
    found: dict[str, Caller] = {}
    for _, caller in static:
        found.setdefault(caller.id, caller)
    return tuple(found.values())


def _owner(key: ApiKey, owners: dict[str, str], taken: frozenset[str]) -> str:
    if key.is_labelled:
        return owners[key.label]
    own = _identity(b"id", key.token)
    # A label keeps the owner that it had under this token: without the label the token is another tenant.
    return _identity(b"unlabelled", key.token) if own in taken else own


def _conflict(e: TenantsWouldMerge, entries: Sequence[ApiKey]) -> str:
    numbers = " and ".join(str(entries[index].number) for index in e.entries)
    if len(e.entries) > 1:
        which = f"entries {numbers} have the label {e.label}, and each of them has runs of its own"
    else:
        which = f"entry {numbers} has runs of its own, and its label {e.label} has others"
    return f"API_KEYS: {which}. One label is one tenant, so they would be merged: give one of them another label"


def _identity(kind: bytes, text: str) -> str:
    return "key_" + hashlib.sha256(b"runyard key " + kind + b":" + text.encode()).hexdigest()[:24]


def _caller(key: ApiKey, owner: str) -> Caller:
    bucket = Bucket(key.rps, key.burst)
    return Caller(owner, key.label, bucket, bucket.widened(READ_FACTOR))

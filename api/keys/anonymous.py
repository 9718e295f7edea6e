"""Name the owner of the runs of an address without a key, in a form that no key has."""

from __future__ import annotations

import hashlib

#: No stored key's id and no static key's begins like this.
_PREFIX = "key_address"


def anonymous_id(address: str) -> str:
    """Return the id of an address, which is in the records of its runs and cannot be turned back into it."""
    return _PREFIX + hashlib.sha256(b"runyard address:" + address.encode()).hexdigest()[:24]


def is_anonymous_id(owner: str) -> bool:
    """Return whether an owner of runs that is no stored key is an address."""
    return owner.startswith(_PREFIX)

"""Ids: a prefix for the kind, and unguessable characters."""

from __future__ import annotations

import os
import string

_RANDOM_CHARACTERS = 28
#: 256 bytes onto 62 characters: eight of them are a little likelier, which costs 28 characters no bit of use.
_ALPHABET = (string.ascii_letters + string.digits).encode()
_TO_ALPHABET = bytes(_ALPHABET[i % len(_ALPHABET)] for i in range(256))


def new_id(prefix: str) -> str:
    """Return a new id: `prefix_` and 28 random characters."""
    return f"{prefix}_{os.urandom(_RANDOM_CHARACTERS).translate(_TO_ALPHABET).decode()}"

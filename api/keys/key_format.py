"""The text of a stored key: `ry_`, 32 random characters, and 6 checksum characters.

The last six are a CRC-32 in base 62, so that scanners of leaked secrets can recognise a key, and so that a
mistyped or invented one is rejected without a look at the database. They are not secret: anybody can compute
them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "ry"
#: Characters of a key that are stored in clear text, so that people recognise it.
SHOWN = 8
_RANDOM = 32
_CHECKSUM = 6
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(f"{PREFIX}_[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}")


def new_key_text() -> str:
    """Return a new key with 190 random bits."""
    text = f"{PREFIX}_" + "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return text + _checksum(text)


def is_well_formed(text: str) -> bool:
    """Return whether the text has the form of a key and its checksum is right."""
    return _FORM.fullmatch(text) is not None and text[-_CHECKSUM:] == _checksum(text[:-_CHECKSUM])


def digest(text: str) -> bytes:
    """Return the stored form of a key: a plain hash, which suffices because keys cannot be guessed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _checksum(text: str) -> str:
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM):
        value, digit = divmod(value, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits

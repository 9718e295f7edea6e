"""Keep the credentials in the address of a registry out of messages: a tool may print the address it was given."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote, unquote

MASK = "***"
#: A shorter password alone is part of many words. In an address it is masked, too.
LEAST_LENGTH = 4
_ADDRESSES = re.compile(r"[,|]")
#: User name and password in any address. A password may have an `@`: they end at the last one.
_USER_INFO = re.compile(r"(?<=://)[^\s/\"'`<>]*@")


class Credentials:
    """The user names and passwords in the addresses of one registry, separated by `,` or `|` as Go has them."""

    def __init__(self, index: str) -> None:
        secrets: set[str] = set()
        for address in _ADDRESSES.split(index):
            _, scheme_end, rest = address.partition("://")
            user_info, at, _ = (rest if scheme_end else address).partition("/")[0].rpartition("@")
            if at:
                secrets |= _forms_of(user_info)
        longest_first = sorted((one for one in secrets if len(one) >= LEAST_LENGTH), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def masked(self, text: str) -> str:
        """Return a text without the credentials of this registry, and without those in any address."""
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        return without_user_info(text)


def without_user_info(text: str) -> str:
    """Return a text whose addresses have no user names and passwords."""
    return _USER_INFO.sub(f"{MASK}@", text)


def _forms_of(user_info: str) -> set[str]:
    """Return the forms in which a tool may print a user name with a password, or a password or token alone."""
    user, colon, password = user_info.partition(":")
    plain = f"{unquote(user)}:{unquote(password)}"
    secret = password if colon else user  # without a password the user name is a token
    return {
        user_info,
        plain,
        secret,
        unquote(secret),
        quote(unquote(secret), safe=""),
        base64.b64encode(plain.encode()).decode(),
        base64.b64encode(unquote(secret).encode()).decode(),
    }

"""The static keys of `API_KEYS`: one entry for each token, entries with one label are one tenant."""

from __future__ import annotations

import re


class ApiKey:
    """A static token of `API_KEYS`: its label and its bucket (requests per second, burst).

    `is_labelled` is False where the entry has no label; `label` is then a name made of the entry's number.
    """

    __slots__ = ("burst", "is_labelled", "label", "number", "rps", "token")

    def __init__(
        self, token: str, label: str, rps: float, burst: int, *, is_labelled: bool = True, number: int = 0
    ) -> None:
        self.token = token
        self.label = label
        self.rps = rps
        self.burst = burst
        self.is_labelled = is_labelled
        self.number = number

    def __repr__(self) -> str:
        return f"ApiKey(label={self.label!r})"


_TOKEN = re.compile(r"[\x21-\x2b\x2d-\x39\x3b-\x7e]{1,256}")
_LABEL = re.compile(r"(?! )[A-Za-z0-9_.@ -]{1,64}(?<! )")
_FIELDS = ("token", "label", "rps", "burst")
_DEFAULT_RATE = "1000"


def parse_api_keys(text: str) -> tuple[ApiKey, ...]:
    """Parse `token:label:rps:burst`, comma-separated; rate and burst may be left out (1000 each).

    Entries with one label are one tenant and have one rate: an entry without a rate has that of the others.
    Raises ValueError naming the entry by number, never by its token.
    """
    entries = [
        _split(number, entry) for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1)
    ]
    rates: dict[tuple[str, str], tuple[int, str]] = {}
    for number, (_, label, *given) in enumerate(entries, start=1):
        for name, value in zip(_FIELDS[2:], given, strict=True):
            if not (label and value):
                continue
            first, agreed = rates.setdefault((label, name), (number, value))
            if value != agreed:
                raise ValueError(
                    f"API_KEYS: entries {first} and {number} have one label and a different {name}: "
                    "one label is one tenant, give both the same"
                )
    keys: list[ApiKey] = []
    for number, (token, label, *given) in enumerate(entries, start=1):
        rps, burst = (
            value or rates.get((label, name), (0, _DEFAULT_RATE))[1]
            for name, value in zip(_FIELDS[2:], given, strict=True)
        )
        keys.append(_api_key(number, token, label, rps, burst))
    if len({key.token for key in keys}) != len(keys):
        raise ValueError("API_KEYS: the same token is given twice")
    if not keys:
        raise ValueError("API_KEYS: is set but holds no token")
    return tuple(keys)


def is_token(text: str) -> bool:
    """Return whether a text can be the token of an entry."""
    return _TOKEN.fullmatch(text) is not None


def _split(number: int, entry: str) -> list[str]:
    parts = entry.split(":")
    if len(parts) > len(_FIELDS):
        raise ValueError(f"API_KEYS: entry {number}: more than {':'.join(_FIELDS)}")
    return parts + [""] * (len(_FIELDS) - len(parts))


def _api_key(number: int, token: str, label: str, rps: str, burst: str) -> ApiKey:
    where = f"API_KEYS: entry {number}"
    if not is_token(token):
        raise ValueError(f"{where}: the token must be 1 to 256 visible ASCII characters")
    if not _LABEL.fullmatch(label or "key"):
        raise ValueError(
            f"{where}: the label must be 1 to 64 of A-Z a-z 0-9 _ . @ - and spaces, with no space at either end"
        )
    try:
        rate, size = float(rps), int(burst)
    except ValueError as e:
        raise ValueError(f"{where}: rps must be a number and burst an integer") from e
    if not (0 < rate <= 1e6 and 1 <= size <= 1_000_000):
        raise ValueError(f"{where}: rps must be above 0 and burst at least 1, both at most 1000000")
    return ApiKey(token, label or f"key{number}", rate, size, is_labelled=bool(label), number=number)

"""Numbers as a query, or a header that stands for one, gives them."""

from __future__ import annotations

from api.errors import invalid

#: Leading zeros are taken; what is longer is not worth reading as a number.
MAX_DIGITS = 20


def parse_int(text: str | None, name: str, low: int, high: int, default: int) -> int:
    """Return an integer from `low` to `high`, or the default if absent. Raises ApiError 400 naming both bounds."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS) or not low <= int(text) <= high:
        raise invalid(f"{name}: must be an integer from {low} to {high}", param=name)
    return int(text)

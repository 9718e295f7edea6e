"""The packages of a message as texts: the builder of images reads this, and has no library that parses them."""

from __future__ import annotations

from protocol.limits import JobInvalid


def decode_packages(data: object) -> tuple[str, ...]:
    """Return the entries of a message, whose form is for others to judge. Raises JobInvalid."""
    if not isinstance(data, list) or not all(isinstance(entry, str) for entry in data):
        raise JobInvalid("packages: must be a list of strings", param="packages", code="invalid_type")
    return tuple(data)

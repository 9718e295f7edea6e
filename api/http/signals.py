"""Signals by their names."""

from __future__ import annotations

import signal
from typing import Any

from api.errors import invalid

#: The body of a call that sends one.
SIGNAL_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["signal"],
    "properties": {"signal": {"enum": sorted(found.name for found in signal.Signals)}},
    "additionalProperties": False,
}


def signal_number(asked: dict[str, Any]) -> int:
    """Return the number of the signal that a body names. Raises ApiError 400."""
    if set(asked) != {"signal"} or not isinstance(asked.get("signal"), str):
        raise invalid("signal: is required, as a name such as SIGTERM", param="signal", code="missing_field")
    name = asked["signal"].upper()
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if not isinstance(found, signal.Signals):
        raise invalid("signal: must be the name of a signal, such as SIGTERM, SIGINT or SIGKILL", param="signal")
    return int(found)

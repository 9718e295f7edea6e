"""Questions to the worker of a running service at its Unix socket. Standard library only."""

from __future__ import annotations

import json
import socket
from typing import Any

from ops.state import StatePlace

ANSWER_S = 10.0
#: A canary may wait for its sandbox to be made twice, each time until its agent is given up.
CANARY_S = 60.0


def ask(place: StatePlace, request: dict[str, Any], timeout_s: float = ANSWER_S) -> dict[str, Any] | None:
    """Send one request and return its answer; None where no worker answers it in time."""
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(timeout_s)
            asked.connect(str(place.run / "worker.sock"))
            asked.sendall(json.dumps(request).encode() + b"\n")
            with asked.makefile("rb") as answer:
                found = json.loads(answer.readline())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def failing(place: StatePlace) -> dict[str, dict[str, Any]]:
    """Return the languages whose sandboxes cannot be made: `words`, `times`, `since` and `remedy` of each."""
    found = (ask(place, {"op": "sandboxes"}) or {}).get("sandboxes")
    return found if isinstance(found, dict) else {}


def canary(place: StatePlace, language: str) -> tuple[str, str]:
    """Run the example of a language. Returns the reason of its failure and a remedy, empty if it ran."""
    answer = ask(place, {"op": "canary", "language": language}, CANARY_S)
    found = (answer or {}).get("canary")
    if not isinstance(found, dict):
        return f"the worker does not answer within {CANARY_S:.0f} s", "see the log"
    return ("", "") if found.get("ok") else (str(found.get("words")), str(found.get("remedy")))

"""Ask the egress process at its Unix socket whether it serves. Standard library only."""

from __future__ import annotations

import json
import socket
from pathlib import Path

ANSWER_S = 5.0


def egress_answers(path: Path) -> bool:
    """Return whether an egress process answers there."""
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(ANSWER_S)
            asked.connect(str(path))
            asked.sendall(b'{"op":"status"}\n')
            with asked.makefile("rb") as answer:
                return "status" in json.loads(answer.readline())
    except (OSError, ValueError):
        return False

"""Ask the egress process something that is no connection of a program: one line of JSON, answered by one line."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_S = 1.0
#: That process parses what programs send, so its answers are bounded in size and in time.
MAX_ANSWER_BYTES = 16 * 1024


def ask_egress(path: Path, question: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer of the egress process at a socket; None where it does not answer in time."""
    deadline = time.monotonic() + ANSWER_S
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(ANSWER_S)
            asked.connect(str(path))
            asked.sendall(json.dumps(question).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                asked.settimeout(max(0.001, deadline - time.monotonic()))
                data = asked.recv(MAX_ANSWER_BYTES)
                answer += data
                if not data or len(answer) > MAX_ANSWER_BYTES:
                    return None
        found = json.loads(answer)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

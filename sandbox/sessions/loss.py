"""The loss of a session's sandbox: it has hung up, has broken the protocol, or does not do what it must."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.session import EndReason
    from sandbox.sessions.session import LiveSession

#: If the kernel kills a whole sandbox, the stream ends first, and the kill is counted then.
OOM_KNOWN_S, OOM_LOOK_S = 0.3, 0.02


def note_loss(session: LiveSession, end: Callable[[LiveSession], object]) -> None:
    """Have `end` called for a sandbox that has hung up, unless that is because its session has ended.

    For the hub's thread, which must not wait: to find the reason, and to take a sandbox apart, takes a while.
    """
    if session.end_reason is None:
        threading.Thread(target=end, args=(session,), daemon=True).start()


def reason_of_loss(session: LiveSession) -> EndReason:
    """Return why a session's sandbox was lost: `oom` if the kernel killed something in it for want of memory."""
    deadline = time.monotonic() + OOM_KNOWN_S
    try:
        while session.sandbox.stats().oom_kills == 0:
            if time.monotonic() > deadline:
                return "failed"
            time.sleep(OOM_LOOK_S)
    except Exception:  # noqa: BLE001  # the sandbox is gone, or the session has ended meanwhile
        return "failed"
    return "oom"

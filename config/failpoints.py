"""Named points of a run's life at which a process can be made to exit, for the tests of recovery.

`RUNYARD_DIE_AT=point:/path` kills the process that reaches the point first, by SIGKILL, and leaves a file there, so
that it happens once. `RUNYARD_DIE_AT=file:/path` reads `point:/path` from that file at each point, so that one
process can exit at several in turn. Unset, as it is outside of tests, a point costs one comparison.

The points, in the worker: `leased` (a run has its place), `created` (it has its sandbox), `started` (the job is
sent), `exited` (the program has ended), `collecting` (an artifact begins), `resulted` (the result is complete and
not sent). In api: `accepted` (a run is recorded and not dispatched), `ended` (a result is here and not
recorded), `recorded` (it is, and not acknowledged).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Point = Literal["leased", "created", "started", "exited", "collecting", "resulted", "accepted", "ended", "recorded"]

_thread = threading.local()
_asked = os.environ.get("RUNYARD_DIE_AT", "")
_FILE = "file:"


@contextlib.contextmanager
def spare() -> Iterator[None]:
    """Skip every point on this thread: for a run without an owner, such as a canary."""
    _thread.spared = True
    try:
        yield
    finally:
        _thread.spared = False


def failpoint(point: Point) -> None:
    """Die here, if that was asked for and has not happened yet."""
    if not _asked or getattr(_thread, "spared", False):
        return
    wanted, _, mark = _in_force().partition(":")
    if wanted != point:
        return
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _in_force() -> str:
    """Return the point to die at and its mark, from the setting or from the file that it names."""
    if not _asked.startswith(_FILE):
        return _asked
    try:
        return Path(_asked.removeprefix(_FILE)).read_text().strip()
    except OSError:
        return ""

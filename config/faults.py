"""Named points of a run's life at which a process can be told to die: for the tests of what survives that.

`RUNYARD_DIE_AT=point:/path` kills the process that reaches the point first, by SIGKILL, and leaves a file there, so
that it happens once. Unset, as it is outside of tests, a point costs one comparison.

The points, in the worker: `leased` (a run has its place), `created` (it has its sandbox), `started` (the job is
sent), `exited` (the program has ended), `collecting` (an artifact begins), `resulted` (the result is there, and
nobody was told). In api: `accepted` (a run is recorded and not dispatched), `ended` (a result is here and not
recorded), `recorded` (it is, and not acknowledged).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Literal

Point = Literal["leased", "created", "started", "exited", "collecting", "resulted", "accepted", "ended", "recorded"]

_thread = threading.local()
_point, _, _mark = os.environ.get("RUNYARD_DIE_AT", "").partition(":")


@contextlib.contextmanager
def spare() -> Iterator[None]:
    """Pass over every point on this thread: for a run that is nobody's, as a canary."""
    _thread.spared = True
    try:
        yield
    finally:
        _thread.spared = False


def reached(point: Point) -> None:
    """Die here, if that was asked for and has not happened yet."""
    if point != _point or getattr(_thread, "spared", False):
        return
    try:
        os.close(os.open(_mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

"""End runs at their worker that were given up without it: it was taken for lost, or out of reach, and is back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dispatch import WorkerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from dispatch import Dispatcher

log = logging.getLogger(__name__)


def end_given_up(
    dispatcher: Dispatcher, run_ids: Iterable[str], *, expected: Container[str], is_live: Callable[[str], bool]
) -> None:
    """End those of the runs that a worker has whose end is recorded, or whose record is gone.

    To their clients they are over. `expected` are the runs of this process that are under way, and `is_live` tells
    of a run of any process whether it has no end. A worker that is gone again lists its runs when it is back.
    """
    for run_id in run_ids:
        if run_id in expected or is_live(run_id):
            continue
        try:
            if dispatcher.cancel(run_id):
                log.warning("a run that was given up is ended at its worker", extra={"run_id": run_id})
        except WorkerUnavailable:
            return

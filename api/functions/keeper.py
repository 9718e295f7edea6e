"""A thread that settles builds nobody has looked at, and removes old versions, every CLEANUP_INTERVAL_S."""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import TYPE_CHECKING

from records.errors import RecordsUnavailable
from storage.errors import StorageError

if TYPE_CHECKING:
    from api.functions.builds import Builds
    from records.functions import FunctionStore

log = logging.getLogger(__name__)

STOP_WITHIN_S = 10.0
#: Versions that one transaction removes.
BATCH = 200


class FunctionKeeper:
    """The passes, and the thread that makes them. To be started after a fork."""

    def __init__(self, functions: FunctionStore, builds: Builds, *, keep: int, interval_s: float) -> None:
        """`keep` is how many of the newest versions of each function stay."""
        self._functions = functions
        self._builds = builds
        self._keep = keep
        self._interval_s = interval_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name="function-keeper", daemon=True)

    def start(self) -> None:
        """Begin, with a pass at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait a while for its pass."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    def sweep(self) -> int:
        """Settle builds and remove old versions; how many were removed. Raises RecordsUnavailable, StorageError."""
        self._builds.settle_all()
        removed, some = 0, BATCH
        while some >= BATCH and not self._stop.is_set():
            some = self._functions.prune(keep=self._keep, batch=BATCH)
            removed += some
        return removed

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if removed := self.sweep():
                    log.info("removed old versions of functions", extra={"versions": removed})
            except (RecordsUnavailable, StorageError) as e:
                log.warning("removing old versions of functions has to wait: %s", e)
            except Exception:
                log.exception("removing old versions of functions failed; the next pass tries again")
            self._stop.wait(self._interval_s)

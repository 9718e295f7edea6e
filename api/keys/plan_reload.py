"""Reload `PLANS_FILE` when it changes: a thread in each process of api looks at it every second.

An invalid file changes nothing: the previous plans stay valid, the error is logged once, counted, and shown
by `GET /v1/admin/plans` until the file is valid again.
"""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import TYPE_CHECKING

from api.keys.plans import load_plans
from config.clock import now
from config.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import Counter

    from api.keys.plans import Plans
    from config.settings import Settings

log = logging.getLogger(__name__)

#: Time of change, size and inode.
Stamp = tuple[int, int, int]
LOOK_S = 1.0
STOP_WITHIN_S = 5.0


class PlanReloader:
    """Keeps `plans` as the file has them. To be started after a fork."""

    def __init__(
        self, plans: Plans, settings: Settings, counter: Counter, seen: Stamp | None, *, look_s: float = LOOK_S
    ) -> None:
        """Count each reload in `counter` by its `result`, `ok` or `failed`. `seen` is the file of `plans`."""
        self._plans = plans
        self._settings = settings
        self._counter = counter
        self._look_s = look_s
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="plans", daemon=True)
        #: The time at which a file was last loaded, and the problem of the present file; None if it is loaded.
        self.loaded_at = now()
        self.error: str | None = None
        self._seen = seen

    def start(self) -> None:
        """Begin to look; without effect where no file is set."""
        if self._settings.plans_file is not None:
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    def _watch(self) -> None:
        before = self._seen
        while not self._stop.wait(self._look_s):
            found = stamp(self._settings.plans_file)
            # A file is read when it was the same twice: who writes it may not have finished.
            if found == before and found != self._seen:
                self._seen = found
                self._reload()
            before = found

    def _reload(self) -> None:
        try:
            self._plans.replace(load_plans(self._settings))
        except SettingsError as e:
            self.error = str(e)
            self._counter.labels("failed").inc()
            log.error("the plans were not reloaded, the previous plans stay valid: %s", e)  # noqa: TRY400
        except Exception:
            self.error = "PLANS_FILE: cannot be read"
            self._counter.labels("failed").inc()
            log.exception("the plans were not reloaded, the previous plans stay valid")
        else:
            self.error, self.loaded_at = None, now()
            self._counter.labels("ok").inc()
            log.info("the plans were reloaded: %s", ", ".join(self._plans))


def stamp(path: Path | None) -> Stamp | None:
    """Return what changes when a file is written or replaced; None if it is not there."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)

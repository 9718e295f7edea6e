"""Freezing a container through the daemon, where its control group cannot be written.

The daemon may freeze by version 1 of control groups. A process frozen so does not exit before it is thawed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sandbox.engines import EngineError

if TYPE_CHECKING:
    from sandbox.engines.docker.daemon import Daemon

log = logging.getLogger(__name__)


class DaemonFreezer:
    """`Freezer` of a container."""

    def __init__(self, daemon: Daemon, container: str) -> None:
        self._daemon = daemon
        self._container = container
        self._is_frozen = False

    def freeze(self) -> bool:
        """See `Freezer.freeze`."""
        self._is_frozen = True
        try:
            self._daemon.pause(self._container)
        except EngineError as e:
            log.info("a container was not frozen", extra={"container": self._container, "reason": str(e)})
            self.thaw()
            return False
        return True

    def thaw(self) -> None:
        """See `Freezer.thaw`. Raises EngineError."""
        if self._is_frozen:
            self._daemon.unpause(self._container)
            self._is_frozen = False

    def close(self) -> None:
        """Thaw what was killed while it was frozen, so that it dies."""
        try:
            self.thaw()
        except EngineError as e:
            log.info("a container was not thawed", extra={"container": self._container, "reason": str(e)})

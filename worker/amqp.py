"""Serve api processes on other machines: conversations through the broker are connections as at the Unix socket.

See `transport` for how they travel, and `worker.handlers` for the requests that they carry.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from config.version import VERSION
from transport.acceptor import AcceptingEndpoint

if TYPE_CHECKING:
    from config.settings import Settings
    from transport.access import BrokerAccess
    from worker.server import Server
    from worker.service import Service

#: Seconds between two looks at the languages that have an image.
LANGUAGES_S = 1.0


class BrokerServer:
    """Serves a `Server` through the broker of `AMQP_URL`, and announces what this worker can run."""

    def __init__(self, access: BrokerAccess, service: Service, server: Server, settings: Settings) -> None:
        self._service = service
        self._places = settings.max_runs
        self._is_stopping = False
        self._languages: list[str] = []
        self._looked_at = float("-inf")
        self._endpoint = AcceptingEndpoint(access, settings.amqp_queue, serve=server.serve_api, facts=self._facts)

    def start(self) -> None:
        """Connect and announce this worker."""
        self._endpoint.start()

    def is_connected(self) -> bool:
        """Return whether the broker takes and delivers messages now."""
        return self._endpoint.is_connected

    def drain(self) -> None:
        """Announce that this worker takes no more runs; those that it has go on."""
        self._is_stopping = True
        self._endpoint.link.call(self._endpoint.announce)

    def stop(self) -> None:
        """Say that this worker is gone, and disconnect."""
        self._endpoint.stop()

    def _facts(self) -> dict[str, Any]:
        load = self._service.admission.load()
        if time.monotonic() - self._looked_at > LANGUAGES_S:
            self._looked_at = time.monotonic()
            self._languages = self._service.ready_languages()
        return {
            "version": VERSION,
            "is_stopping": self._is_stopping,
            "languages": self._languages,
            "isolations": self._service.isolations(),
            "places": self._places,
            "load": load.running + load.waiting,
            "sessions": len(self._service.sessions.all()),
        }

"""One host: api and worker talk over a Unix socket, see `dispatch.worker_client`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatch import WorkerUnavailable
from dispatch.connection import WorkerConnection, connected
from dispatch.worker_client import DEFAULT_PACKAGES_S, WorkerClient

if TYPE_CHECKING:
    from pathlib import Path


class UnixDispatcher(WorkerClient):
    """Reaches the worker of this host (`dispatch.Dispatcher`). Safe for many threads."""

    def __init__(
        self, path: Path, *, queue_wait_s: float = 30.0, packages_timeout_s: float = DEFAULT_PACKAGES_S
    ) -> None:
        """`packages_timeout_s` is what a run that asks for packages may wait for them."""
        super().__init__(self._open, queue_wait_s=queue_wait_s, packages_timeout_s=packages_timeout_s)
        self._path = str(path)

    @property
    def is_connected(self) -> bool:
        """Return True: there is no broker."""
        return True

    def _open(self) -> WorkerConnection:
        try:
            return WorkerConnection(connected(self._path))
        except OSError as e:
            raise WorkerUnavailable("no worker listens") from e

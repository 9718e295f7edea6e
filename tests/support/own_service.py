"""Services that the tests start with settings of their own, beside the service under test."""

from __future__ import annotations

import http.client
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from tests.support.service import Service, make
from tests.support.workers import until

#: A request fails with one of these while api is killed or starts.
UNREACHABLE = (OSError, http.client.HTTPException)
READY_AGAIN_S = 60


def new_state() -> Path:
    """Make a state directory that a sandbox's root, who is nobody out here, may pass through."""
    path = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
    path.chmod(0o755)
    return path


def is_ready(service: Service) -> bool:
    """Return whether the service says that it is ready."""
    try:
        return service.get("/readyz", token=None, timeout=5).status == 200
    except UNREACHABLE:
        return False


class OwnService:
    """A whole service, api and worker under their supervisor, on the images of the service under test.

    It offers bash alone where the settings do not say otherwise: Python's templates cost each start seconds.
    """

    def __init__(self, service: Service, state: Path, uid_base: int, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.service = Service("127.0.0.1", port, state)
        self._settings = {
            "STATE_DIR": str(state),
            "PORT": str(port),
            "IMAGES_DIR": str(service.images),
            "UID_BASE": str(uid_base),
            "LANGUAGES": "bash",
            "WARM_POOL": "bash=2",
            **settings,
        }
        # The code is the same; installing it again takes longer than any test here.
        if not (state / "venv").exists():
            (state / "venv").symlink_to(service.state / "venv")

    def up(self) -> Service:
        """Start it and wait until it is healthy."""
        make("up", **self._settings)
        return self.service

    def down(self) -> None:
        """Stop it and check that nothing of it is left."""
        make("down", **self._settings)


class SharedService:
    """One service that several tests use one after the other. It is replaced when a test wants other settings."""

    def __init__(self, service: Service, uid_base: int) -> None:
        self._images_of = service
        self._uid_base = uid_base
        self._settings: dict[str, str] = {}
        self._own: OwnService | None = None

    def start(self, **settings: str) -> Service:
        """Return a service with these settings that holds no run and no file."""
        if self._own is not None and settings == self._settings:
            return self._own.service
        self.stop()
        self._settings = settings
        self._own = OwnService(self._images_of, new_state(), self._uid_base, **settings)
        return self._own.up()

    def reset(self) -> None:
        """Wait until the service is ready, and delete all runs and files of the tests' keys."""
        if self._own is None:
            return
        service = self._own.service
        until(lambda: is_ready(service), READY_AGAIN_S)
        for token in (service.token, service.other_token):
            while runs := service.get("/v1/runs?limit=100", token=token).body["data"]:
                for run in runs:
                    _delete(service, run, token)
            while files := service.get("/v1/files?limit=100", token=token).body["data"]:
                for file in files:
                    assert service.request("DELETE", f"/v1/files/{file['id']}", token=token).status == 200

    def stop(self) -> None:
        """Stop the service, if one runs, and remove its state directory."""
        own, self._own = self._own, None
        if own is not None:
            own.down()
            shutil.rmtree(own.service.state)


def _delete(service: Service, run: dict[str, Any], token: str) -> None:
    """Delete a run. One that has not ended is cancelled first."""
    if run["status"] in ("queued", "running"):
        service.post(f"/v1/runs/{run['id']}/cancel", data=b"", token=token)
        service.ended(run["id"], token=token)
    reply = service.request("DELETE", f"/v1/runs/{run['id']}", token=token)
    assert reply.status == 200, (reply.status, reply.body)

"""Start one sandbox of an image, and hand it out only once its agent is ready and its confinement was measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.agent_client.readiness import await_ready
from sandbox.engines import Engine, EngineError, NotConfined, Sandbox
from sandbox.images import Image
from sandbox.metrics import Metrics

log = logging.getLogger(__name__)


class SandboxStarter:
    """Starts sandboxes of one engine. Safe from any thread."""

    def __init__(self, engine: Engine, metrics: Metrics, inspect: Callable[[Sandbox], None]) -> None:
        """`inspect` checks every ready sandbox, and may raise NotConfined."""
        self._engine = engine
        self._metrics = metrics
        self._inspect = inspect
        #: True if the last sandbox had every required layer; None before the first.
        self.confined: bool | None = None
        #: The version of Landlock that its agent enabled, 0 if the kernel has none for it.
        self.landlock: int | None = None

    def start(  # one argument for each property that is chosen
        self,
        image: Image,
        *,
        hold: bool = True,
        flavour: str = "",
        container: bool = False,
        owner: str = "",
        layer: Path | None = None,
    ) -> Sandbox:
        """Start a sandbox; see `Engine.create`. Raises EngineError."""
        began = time.monotonic()
        try:
            sandbox = self._checked(
                self._engine.create(
                    image, hold=hold, flavour=flavour, container=container, owner=owner, layer=layer
                )
            )
        except EngineError:
            self._metrics.engine_errors.labels("start").inc()
            raise
        self._metrics.starts.labels(image.language).observe(time.monotonic() - began)
        return sandbox

    def _checked(self, sandbox: Sandbox) -> Sandbox:
        """Return the sandbox once its agent is ready and it was measured; destroy it if that fails."""
        try:
            self._note_landlock(await_ready(sandbox).landlock_abi)
            self._inspect(sandbox)
            sandbox.measure()
            self.confined = True
        except BaseException as e:
            if isinstance(e, NotConfined):
                self.confined = False
            sandbox.destroy()
            raise
        return sandbox

    def _note_landlock(self, version: int) -> None:
        if version != self.landlock:
            log.info("landlock in sandboxes", extra={"version": version})
        self.landlock = version

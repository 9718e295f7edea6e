"""gVisor next to another runtime: a second engine, with a warm pool of its own, for runs that ask for `gvisor`."""

from __future__ import annotations

import logging

from config.settings import Settings
from sandbox.engines import Engine, EngineError
from sandbox.engines.confinement import IDS_PER_SLOT
from sandbox.engines.runtimes import find_runtime
from sandbox.images import Images
from sandbox.languages import Catalogue, Language
from sandbox.metrics import Metrics
from sandbox.pool.sizes import pool_sizes
from sandbox.pool.warm_pool import WarmPool
from sandbox.posture.canary import Posture

log = logging.getLogger(__name__)

OFF = "off"
RUNSC = "runsc"
#: Sandboxes that are being taken apart still hold their slot.
TEARDOWN_SLOTS = 8


def gvisor_engine(settings: Settings, catalogue: Catalogue, engine: Engine, *, slots_before: int) -> Engine | None:
    """Return an engine like `engine` that starts gVisor; None where it is missing, not wanted, or `engine`'s own.

    `slots_before` are those of `engine`: the uids of the two never meet.
    """
    if settings.gvisor_pool == OFF or engine.runtime.startswith(RUNSC):
        return None
    sizes = _sizes(settings, catalogue)
    slots = settings.max_runs + sum(sizes.values()) + len(sizes) + TEARDOWN_SLOTS
    uid_base = settings.uid_base + slots_before * IDS_PER_SLOT
    own = settings.model_copy(update={"runtime": RUNSC, "uid_base": uid_base, "warm_pool": None})
    try:
        if engine.name == "oci":
            return _oci(own, catalogue, slots)
        return _docker(own, catalogue, slots)
    except EngineError as e:
        log.error("gVisor is installed and cannot be offered", extra={"reason": str(e)})  # noqa: TRY400
        return None


def _oci(settings: Settings, catalogue: Catalogue, slots: int) -> Engine | None:
    from sandbox.engines.oci.engine import OciEngine  # each engine is loaded only where it is used

    if find_runtime(RUNSC) is None:
        return None
    return OciEngine(settings, catalogue, slots=slots, beside=True)


def _docker(settings: Settings, catalogue: Catalogue, slots: int) -> Engine | None:
    from sandbox.engines.docker.daemon import Daemon  # as above
    from sandbox.engines.docker.engine import DockerEngine

    daemon = Daemon(settings.docker_host, settings.docker_timeout_s)
    known = sorted(name for name in daemon.about.runtimes if name.startswith(RUNSC))
    if not known:
        daemon.close()
        return None
    return DockerEngine(settings.model_copy(update={"runtime": known[0]}), catalogue, daemon, slots=slots)


class GvisorPool(WarmPool):
    """Keeps one warm sandbox of every language that was asked for, or those that GVISOR_POOL names.

    Each image's first sandbox is measured before it is handed out, so a service that is never asked pays nothing.
    """

    def __init__(
        self, settings: Settings, catalogue: Catalogue, engine: Engine, images: Images, metrics: Metrics
    ) -> None:
        self.engine = engine
        self.posture = Posture(
            engine, catalogue, apparmor=settings.apparmor_profile, relaxed=settings.disable_sandbox_security
        )
        self._grows = settings.gvisor_pool is None
        super().__init__(
            engine, images, _sizes(settings, catalogue), metrics, inspect=self.posture.inspect, tries=False
        )

    def check(self, language: Language) -> None:
        """Check the language as `WarmPool.check` does; from now on one sandbox of it is kept warm."""
        super().check(language)
        if self._grows:
            self.ensure_minimum_one(language)

    def close(self) -> None:
        super().close()
        self.engine.close()


def _sizes(settings: Settings, catalogue: Catalogue) -> dict[Language, int]:
    return pool_sizes(list(catalogue), memory_mb=0, wanted=settings.gvisor_pool, name="GVISOR_POOL")

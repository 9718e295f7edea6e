"""Which engine makes the sandboxes, and where its images come from: what ENGINE and RUNTIME ask for."""

from __future__ import annotations

import logging
import os

from config.settings import Settings
from sandbox.engines import Engine, EngineUnusable
from sandbox.engines.runtimes import RUNTIMES, find_runtime
from sandbox.images import Images, ImageStore
from sandbox.languages import Catalogue

log = logging.getLogger(__name__)


def open_engine(settings: Settings, catalogue: Catalogue, *, slots: int) -> tuple[Engine, Images]:
    """The engine that ENGINE asks for, and the images it starts. Raises EngineUnusable saying what to install."""
    if settings.disable_sandbox_security:
        log.error("DISABLE_SANDBOX_SECURITY=1: sandboxes run without seccomp and no-new-privileges")
    chosen = settings.engine
    if chosen == "auto":
        chosen = "oci" if oci_is_possible(settings.runtime) else "docker"
    if chosen == "oci":
        return _open_oci(settings, catalogue, slots)
    try:
        return _open_docker(settings, catalogue, slots)
    except EngineUnusable as e:
        if settings.engine == "docker":
            raise
        wanted = settings.runtime or "crun"
        raise EngineUnusable(
            f"ENGINE=auto finds nothing to make sandboxes with. For the engine oci: run as root, apt-get install "
            f"{wanted}. For the engine docker: {e}"
        ) from e


def oci_is_possible(runtime: str | None) -> bool:
    """Whether the engine `oci` has a runtime here and the right to use it."""
    names = (runtime,) if runtime else RUNTIMES
    return os.geteuid() == 0 and any(find_runtime(name) for name in names)


def _open_oci(settings: Settings, catalogue: Catalogue, slots: int) -> tuple[Engine, Images]:
    from sandbox.engines.oci.engine import OciEngine  # each engine is loaded only where it is used

    return OciEngine(settings, catalogue, slots=slots), ImageStore(settings.images)


def _open_docker(settings: Settings, catalogue: Catalogue, slots: int) -> tuple[Engine, Images]:
    from sandbox.engines.docker.daemon import Daemon  # as above; the SDK takes a tenth of a second to load
    from sandbox.engines.docker.engine import DockerEngine
    from sandbox.engines.docker.images import LoadedImages

    daemon = Daemon(settings.docker_host)
    settings.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    images = LoadedImages(ImageStore(settings.images), daemon, settings.run_dir)
    engine = DockerEngine(settings, catalogue, daemon, slots=slots, image_missing=images.forget)
    return engine, images

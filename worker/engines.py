"""Which engine makes the sandboxes, and where its images come from: what ENGINE and RUNTIME ask for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from config.settings import IMAGE_PREFIX, Settings, image_overrides
from sandbox.agent_client.readiness import await_ready
from sandbox.engines import Engine, EngineError, EngineUnusable
from sandbox.engines.runtimes import RUNTIMES, find_runtime
from sandbox.images import Image, ImageStore, OverriddenImages
from sandbox.languages import Catalogue

log = logging.getLogger(__name__)


def open_engine(settings: Settings, catalogue: Catalogue, *, slots: int) -> tuple[Engine, OverriddenImages]:
    """Return the engine that ENGINE selects, and its images. Raises EngineUnusable that names the missing package.

    Starts no process that lives on: another engine may yet be opened. So the given images are untried.
    """
    if settings.disable_sandbox_security:
        log.error(
            "DISABLE_SANDBOX_SECURITY=1: sandboxes run without seccomp, AppArmor and no-new-privileges, and every "
            "run's isolation shows it"
        )
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
            f"ENGINE=auto: no engine is usable. For the engine oci: run as root, apt-get install "
            f"{wanted}. For the engine docker: {e}"
        ) from e


def oci_is_possible(runtime: str | None) -> bool:
    """Return whether the engine `oci` has a runtime here and the right to use it."""
    names = (runtime,) if runtime else RUNTIMES
    return os.geteuid() == 0 and any(find_runtime(name) for name in names)


def _open_oci(settings: Settings, catalogue: Catalogue, slots: int) -> tuple[Engine, OverriddenImages]:
    from sandbox.engines.oci.engine import OciEngine  # each engine is loaded only where it is used
    from sandbox.engines.oci.image_import import import_image

    imported = settings.state_dir / "imported"
    given = _overrides(catalogue, lambda language, where: import_image(language, Path(where), imported))
    engine = OciEngine(settings, catalogue, slots=slots)
    return engine, OverriddenImages(given, ImageStore(settings.images))


def _open_docker(settings: Settings, catalogue: Catalogue, slots: int) -> tuple[Engine, OverriddenImages]:
    from sandbox.engines.docker.daemon import Daemon  # as above; the SDK takes a tenth of a second to load
    from sandbox.engines.docker.engine import DockerEngine
    from sandbox.engines.docker.images import LoadedImages, referenced_image

    daemon = Daemon(settings.docker_host, settings.docker_timeout_s)
    given = _overrides(catalogue, lambda language, reference: referenced_image(language, reference, daemon))
    settings.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    images = LoadedImages(ImageStore(settings.images), daemon, settings.run_dir)
    engine = DockerEngine(settings, catalogue, daemon, slots=slots, image_missing=images.forget)
    return engine, OverriddenImages(given, images)


def _overrides(catalogue: Catalogue, find: Callable[[str, str], Image]) -> dict[str, Image]:
    """Return the images that RUNNER_IMAGE_<LANG> names, by language. Raises EngineUnusable naming the variable."""
    found = {}
    for name, value in image_overrides().items():
        language = catalogue.get(name)
        if language is None:
            raise EngineUnusable(f"{IMAGE_PREFIX}{name.upper()}: unknown language; supported: {catalogue.ids}")
        try:
            found[language.id] = find(language.id, value)
        except (EngineError, OSError) as e:
            raise EngineUnusable(f"{IMAGE_PREFIX}{name.upper()}={value}: {e}") from e
    return found


def try_given(engine: Engine, images: OverriddenImages) -> None:
    """Start each image that the service's owner has given once. Raises EngineUnusable naming the variable."""
    for language, image in images.given.items():
        try:
            sandbox = engine.create(image)
            try:
                await_ready(sandbox)
            finally:
                sandbox.destroy()
        except EngineError as e:
            raise EngineUnusable(
                f"{IMAGE_PREFIX}{language.upper()}: no sandbox starts from this image; build it with the "
                f"runner's Dockerfile, which includes the agent ({e})"
            ) from e

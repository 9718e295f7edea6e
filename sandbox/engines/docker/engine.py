"""The engine itself: makes containers and takes them apart."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from config.settings import Settings
from protocol.result import Isolation
from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.apparmor import profile_in_force
from sandbox.engines.cgroups.group import Bounds
from sandbox.engines.cgroups.reads import read_limit
from sandbox.engines.confinement import (
    BASE_ENV,
    IDS_PER_SLOT,
    RUN_UID,
    build_bytes,
    default_bounds,
    instance_name,
    load_profile,
)
from sandbox.engines.docker.container import Confinement, container_config, layer_mounts
from sandbox.engines.docker.daemon import Daemon, ImageMissing
from sandbox.engines.docker.sandbox import DockerSandbox
from sandbox.engines.docker.stream import AttachStream
from sandbox.engines.pid1_status import ExpectedStatus
from sandbox.engines.runtime_features import features_of
from sandbox.images import Image
from sandbox.languages import Catalogue, Language

log = logging.getLogger(__name__)

#: The owner of a container: the service, and its worker process that made it.
LABEL_INSTANCE, LABEL_OWNER = "dev.runyard.instance", "dev.runyard.owner"


class DockerEngine:
    """Needs a Docker daemon of this host; see the package's text for what a sandbox is made of."""

    name = "docker"

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        daemon: Daemon,
        *,
        slots: int,
        image_missing: Callable[[Image], None] = lambda _image: None,
    ) -> None:
        """`image_missing` is called with an image that the daemon no longer has.

        Raises EngineUnusable that names the missing part.
        """
        self._daemon = daemon
        self._image_missing = image_missing
        self._catalogue = catalogue
        self.runtime = _runtime(settings.runtime, daemon)
        self._traits = features_of(self.runtime)
        self._relaxed = settings.disable_sandbox_security
        self._seccomp = None if self._relaxed else load_profile(settings.seccomp_profile)
        self._apparmor = None if self._relaxed else profile_in_force(settings.apparmor_profile)
        self._instance = instance_name(settings.state_dir)
        self._owner = owner_name(os.getpid())
        self._confinement = Confinement(
            runtime=self.runtime,
            seccomp=self._seccomp.data if self._seccomp else None,
            apparmor=self._apparmor,
            no_new_privileges=not self._relaxed,
            cgroup_parent=_parent(self._instance, daemon.about.cgroup_driver),
            reads=read_limit(Path(daemon.about.root or "/var/lib/docker"), settings.io_read_mb_s),
        )
        self._layers = settings.layers_dir, settings.layers_host_dir
        self._uids = Uids(settings.uid_base, slots)

    @property
    def has_templates(self) -> bool:
        """Return False: each of its sandboxes is a container of its own."""
        return False

    def has_own_template(self, image: Image, flavour: str, owner: str) -> bool:  # noqa: ARG002
        """Return False; see `Engine.has_own_template`."""
        return False

    def create(
        self,
        image: Image,
        *,
        hold: bool = True,
        flavour: str = "",  # noqa: ARG002  # without templates all are alike
        container: bool = False,  # noqa: ARG002
        owner: str = "",  # noqa: ARG002
        layer: Path | None = None,
    ) -> DockerSandbox:
        """Create a sandbox of `image` with the default limits and a starting agent; see `Engine.create`."""
        language = self._catalogue.get(image.language)
        if language is None:
            raise EngineError(f"no language for image {image.language}")
        uid = self._uids.take()
        bounds = default_bounds(language)
        expected = None  # gVisor's own confinement is no process's status
        if self._traits.seccomp:
            expected = ExpectedStatus.of(uid, relaxed=self._relaxed, apparmor=self._apparmor)
        name = f"{self._instance}-{secrets.token_hex(8)}"
        sandbox = DockerSandbox(name, image, self.facts(image), bounds, expected, self._traits, self._daemon)
        sandbox.undo.callback(self._uids.release, uid)
        try:
            self._build(sandbox, language, uid, bounds, layer, hold=hold)
        except BaseException as e:
            sandbox.destroy()
            if isinstance(e, ImageMissing):
                self._image_missing(image)
            if isinstance(e, OSError):
                raise EngineError(f"cannot make a sandbox: {e}") from e
            raise
        return sandbox

    def _build(  # one argument for each property of the container
        self,
        sandbox: DockerSandbox,
        language: Language,
        uid: int,
        bounds: Bounds,
        layer: Path | None,
        *,
        hold: bool,
    ) -> None:
        config = container_config(
            self._confinement,
            image=sandbox.image.reference,
            argv=language.agent_command(hold=hold),
            env={**BASE_ENV, **language.env},
            uid=uid,
            bounds=self._traits.with_headroom(bounds),
            labels={LABEL_INSTANCE: self._instance, LABEL_OWNER: self._owner},
            build_bytes=build_bytes(language),
            layers=None if layer is None else layer_mounts(layer, self._on_daemon(layer)),
        )
        sandbox.container = self._daemon.create(sandbox.id, config)
        attached = self._daemon.attach(sandbox.container)
        sandbox.stream = AttachStream(attached.socket, attached.early)
        self._daemon.start(sandbox.container)
        sandbox.attach_pid(self._daemon.pid(sandbox.container))
        sandbox.bound_terminals()

    def _on_daemon(self, layer: Path) -> Path:
        """Return the path of a layer for the daemon."""
        here, there = self._layers
        return layer if there is None else there / layer.relative_to(here)

    def facts(self, image: Image) -> Isolation:
        """Return the confinement of a sandbox of `image`."""
        return Isolation(
            engine=self.name,
            runtime=self.runtime,
            source="pool",
            network="none",
            seccomp=self._seccomp.digest if self._seccomp and self._traits.seccomp else None,
            apparmor=self._apparmor,
            user_namespace=False,
            image=image.digest,
            platform=_platform(self._daemon.about.runtimes.get(self.runtime, ())),
            relaxed=self._relaxed,
        )

    def cleanup_stale(self) -> int:
        """Remove the containers of this service whose worker has exited."""
        removed = 0
        for found in self._daemon.labelled({LABEL_INSTANCE: self._instance}):
            owner = (found.get("Labels") or {}).get(LABEL_OWNER, "")
            if not is_alive(owner):
                self._daemon.remove(found["Id"])
                removed += 1
        return removed

    def stop(self) -> None:
        """See `Engine.stop`; no container takes long to create."""

    def close(self) -> None:
        """Close the engine, after every sandbox has been destroyed; it holds nothing else."""
        self._daemon.close()


class Uids:
    """One host uid for each concurrent sandbox, since kernel quotas are per uid."""

    def __init__(self, uid_base: int, count: int) -> None:
        # The first range above the base holds the uid of the api process.
        first, last = uid_base + IDS_PER_SLOT + RUN_UID, uid_base + (count + 1) * IDS_PER_SLOT
        if last > 2**31:
            raise EngineUnusable(f"UID_BASE={uid_base} leaves no room for {count} slots below 2^31")
        self._lock = threading.Lock()
        self._free = [first + n * IDS_PER_SLOT for n in range(count)]

    def take(self) -> int:
        """Return a free uid. Raises EngineError when all are in use."""
        with self._lock:
            if not self._free:
                raise EngineError("no free slot")
            return self._free.pop(0)

    def release(self, uid: int) -> None:
        with self._lock:
            self._free.append(uid)


def _runtime(wanted: str | None, daemon: Daemon) -> str:
    """Return the runtime to use: RUNTIME, or runc, or the daemon's default."""
    about = daemon.about
    if wanted is None:
        return "runc" if "runc" in about.runtimes else about.default_runtime
    if wanted not in about.runtimes:
        raise EngineUnusable(
            f"RUNTIME={wanted}: the Docker daemon has no such runtime, but {', '.join(sorted(about.runtimes))}: "
            f"apt-get install {wanted}, add it to `runtimes` in /etc/docker/daemon.json and restart the daemon"
        )
    return wanted


def _platform(arguments: tuple[str, ...]) -> str | None:
    """Return the gVisor platform that the daemon's configuration selects."""
    chosen = (argument.partition("=")[2] for argument in arguments if argument.lstrip("-").startswith("platform="))
    return next(chosen, None)


def _parent(instance: str, cgroup_driver: str) -> str:
    """Return the control group above all containers of this service."""
    return f"{instance.replace('-', '_')}.slice" if cgroup_driver == "systemd" else f"/{instance}"


def owner_name(pid: int) -> str:
    """Name a process for as long as it lives, and no other ever after: boot, pid and time of start."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # The 22nd field, counted after the name, which may hold anything: see proc_pid_stat(5).
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot}.{pid}.{started}"


def is_alive(owner: str) -> bool:
    """Return whether the process of that name still exists."""
    try:
        return owner_name(int(owner.split(".")[1])) == owner
    except (OSError, ValueError, IndexError):
        return False

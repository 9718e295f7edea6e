"""The engine itself: makes sandboxes out of slots, cgroups, overlay mounts and crun, and takes them apart."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import secrets
import signal
import socket
import threading
import time
from pathlib import Path

from config.settings import Settings
from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.oci import spec
from sandbox.engines.oci.cgroups import Bounds, open_cgroups
from sandbox.engines.oci.crun import Crun
from sandbox.engines.oci.devices import make_device_layer
from sandbox.engines.oci.sandbox import AGENT_PIDS, DEFAULT_MEMORY_BYTES, OciSandbox
from sandbox.engines.oci.slots import Slot, Slots
from sandbox.engines.oci.syscalls import (
    MS_NOSUID,
    MS_RDONLY,
    become_subreaper,
    mount,
    private_mounts,
    unmount,
)
from sandbox.images import Image
from sandbox.job import LIMIT_RULES, MIB, Isolation
from sandbox.languages import Catalogue, Language

log = logging.getLogger(__name__)

DEFAULT_CPUS = float(LIMIT_RULES["cpus"].default or 1.0)
DEATH_TIMEOUT_S = 10.0
BASE_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/work",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",  # noqa: S108
    "MPLBACKEND": "Agg",
}
PROFILES = Path(__file__).resolve().parents[3] / "seccomp"


class OciEngine:
    """Needs root, crun and cgroups; see the package's text for what a sandbox is made of."""

    name = "oci"

    def __init__(self, settings: Settings, catalogue: Catalogue, *, slots: int) -> None:
        """Claim what the engine needs of this process. Raises EngineUnusable saying what is missing.

        Must be called before the process has threads: user namespaces are made by forking.
        """
        if os.geteuid() != 0:
            raise EngineUnusable("engine oci needs root")
        self._relaxed = settings.disable_sandbox_security
        self._seccomp = None if self._relaxed else _profile(settings.seccomp_profile)
        self._apparmor = None if self._relaxed else _apparmor(settings.apparmor_profile)
        self._catalogue = catalogue
        self._cgroups = open_cgroups(instance_name(settings.state_dir))
        self._slots = Slots(settings.uid_base, slots)
        become_subreaper()
        private_mounts()
        self._place = settings.run_dir / "sandboxes"
        self._place.mkdir(mode=0o711, parents=True, exist_ok=True)
        mount("tmpfs", str(self._place), "tmpfs", MS_NOSUID, "mode=0711,size=64m")
        self._devices = make_device_layer(self._place)
        self._crun = Crun(self._place / "crun")
        self._filter: bytes | None = None
        self._specs: dict[tuple[str, bool, bool], str] = {}
        self._lock = threading.Lock()

    @property
    def runtime(self) -> str:
        return self._crun.name

    def create(self, image: Image, *, hold: bool = True) -> OciSandbox:
        """A sandbox of `image` under the default limits, its agent starting; see `Engine.create`."""
        language = self._catalogue.get(image.language)
        if language is None:
            raise EngineError(f"no language for image {image.language}")
        bounds = Bounds(DEFAULT_MEMORY_BYTES, DEFAULT_CPUS, language.pids_default + AGENT_PIDS)
        ours, theirs = socket.socketpair()
        sandbox = OciSandbox(secrets.token_hex(8), image, self.facts(image), bounds, ours)
        try:
            with theirs:
                self._build(sandbox, language, theirs, hold=hold)
        except BaseException as e:
            sandbox.destroy()
            if isinstance(e, OSError):
                raise EngineError(f"cannot make a sandbox: {e}") from e
            raise
        return sandbox

    def _build(self, sandbox: OciSandbox, language: Language, theirs: socket.socket, *, hold: bool) -> None:
        undo = sandbox.undo
        slot = self._slots.take()
        undo.callback(self._slots.give_back, slot)
        group = self._cgroups.create(sandbox.id)
        undo.callback(group.remove)
        sandbox.group = group
        group.set(sandbox.bounds)
        bundle = f"{self._place}/{sandbox.id}"
        root = f"{bundle}/root"
        os.mkdir(bundle)
        undo.callback(_remove_bundle, bundle)
        os.mkdir(root)
        mount(
            "overlay",
            root,
            "overlay",
            MS_RDONLY | MS_NOSUID,
            "lowerdir=" + ":".join((str(self._devices), *sandbox.image.layers)),
        )
        undo.callback(unmount, root)
        undo.callback(self._crun.forget, sandbox.id)
        config = self._config(sandbox.image, language, slot, bundle, hold=hold)
        pid = self._crun.start(sandbox.id, bundle, config, theirs.fileno(), group.enter)
        sandbox.born(pid)
        if self._filter is None and self._seccomp is not None:
            self._filter = self._crun.compiled_filter(sandbox.id)

    def _config(self, image: Image, language: Language, slot: Slot, bundle: str, *, hold: bool) -> bytes:
        compiled = self._filter is not None
        key = (image.digest, hold, compiled)
        text = self._specs.get(key)
        if text is None:
            text = self._specs[key] = self._spec(language, hold=hold)
        root = f"{bundle}/root"
        namespace = f"/proc/{os.getpid()}/fd/{slot.user_namespace}"
        return text.replace(spec.ROOT_MARK, root).replace(spec.USERNS_MARK, namespace).encode()

    def _spec(self, language: Language, *, hold: bool) -> str:
        annotations = {}
        if self._filter is not None:
            annotations["run.oci.seccomp_bpf_data"] = base64.b64encode(self._filter).decode()
        return spec.build_spec(
            argv=language.agent_command(hold=hold),
            env={**BASE_ENV, **language.env},
            memory_bytes=DEFAULT_MEMORY_BYTES,
            build_bytes=int(language.compiler.memory_mb * MIB * spec.BUILD_SHARE) if language.compiler else 0,
            seccomp=self._seccomp.data if self._seccomp else None,
            apparmor=self._apparmor,
            no_new_privileges=not self._relaxed,
            annotations=annotations,
        )

    def facts(self, image: Image) -> Isolation:
        """What a sandbox of `image` is confined by."""
        return Isolation(
            engine=self.name,
            runtime=self.runtime,
            source="pool",
            network="none",
            seccomp=self._seccomp.digest if self._seccomp else None,
            apparmor=self._apparmor,
            user_namespace=True,
            image=image.digest,
        )

    def reap(self) -> int:
        """Kill and remove what a dead worker of the same service left behind."""
        groups = self._cgroups.leftovers()
        for group in groups:
            deadline = time.monotonic() + DEATH_TIMEOUT_S
            while (pids := group.pids()) and time.monotonic() < deadline:
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
            group.remove()
        return len(groups)

    def close(self) -> None:
        """Give back what the engine holds; every sandbox must be destroyed by now."""
        self._crun.close()
        self._slots.close()
        with contextlib.suppress(OSError):
            unmount(str(self._place))


def instance_name(state_dir: Path) -> str:
    """The name under which this service's cgroups lie: two services on one machine do not meet."""
    return "runyard-" + hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]


def _remove_bundle(bundle: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{bundle}/pid")
    os.rmdir(f"{bundle}/root")
    os.rmdir(bundle)


def _profile(override: str | None) -> spec.Profile:
    path = Path(override) if override else PROFILES / "default.json"
    try:
        text = path.read_bytes()
        data = json.loads(text)
    except (OSError, ValueError) as e:
        raise EngineUnusable(f"SECCOMP_PROFILE={path}: {e}") from e
    return spec.Profile(data=data, digest="sha256:" + hashlib.sha256(text).hexdigest())


def _apparmor(profile: str | None) -> str | None:
    """The profile to ask for; a name that the kernel does not know is refused rather than ignored."""
    loaded = Path("/sys/kernel/security/apparmor/profiles")
    if profile is None:
        return None
    names = loaded.read_text().splitlines() if loaded.exists() else []
    if not any(line.rpartition(" ")[0] == profile for line in names):
        raise EngineUnusable(f"APPARMOR_PROFILE={profile}: this kernel has no such profile loaded")
    return profile

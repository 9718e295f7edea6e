"""The engine itself: makes sandboxes of slots, cgroups, overlay mounts and an OCI runtime, and takes them apart."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import secrets
import socket
import threading
from dataclasses import replace
from pathlib import Path

from config.repeats import RepeatedLog
from config.settings import Settings
from protocol.result import Isolation
from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.apparmor import profile_in_force, template_profiles
from sandbox.engines.cgroups.detect import open_cgroups
from sandbox.engines.cgroups.mounts import remove_empty, remove_parents
from sandbox.engines.cgroups.reads import read_limit
from sandbox.engines.confinement import (
    BASE_ENV,
    DEFAULT_MEMORY_BYTES,
    RUN_UID,
    build_bytes,
    default_bounds,
    instance_name,
    load_profile,
    unprivileged_namespaces_are_off,
)
from sandbox.engines.oci import spec
from sandbox.engines.oci.rootfs import RootfsMounts
from sandbox.engines.oci.runtime import open_runtime
from sandbox.engines.oci.sandbox import OciSandbox, kill_all
from sandbox.engines.oci.slots import Slot, Slots
from sandbox.engines.oci.templates.boot import EngineResources
from sandbox.engines.oci.templates.filter import compile_filter
from sandbox.engines.oci.templates.holder import RotationPolicy, kernel_rotation
from sandbox.engines.oci.templates.source import TemplateSource
from sandbox.engines.pid1_status import ExpectedStatus
from sandbox.engines.syscalls import (
    MS_NOSUID,
    become_subreaper,
    has_overlay,
    mount,
    private_mounts,
    unmount,
)
from sandbox.images import Image
from sandbox.languages import Catalogue, Language

log = logging.getLogger(__name__)
repeated = RepeatedLog(log)


class OciEngine:
    """Needs root, an OCI runtime and cgroups; see the package's text for what a sandbox is made of."""

    name = "oci"

    def __init__(self, settings: Settings, catalogue: Catalogue, *, slots: int, beside: bool = False) -> None:
        """Claim the process-wide resources, unless `beside` another engine, which has them. Raises EngineUnusable.

        Must be called before the process has threads: user namespaces are made by forking.
        """
        if os.geteuid() != 0:
            raise EngineUnusable("engine oci needs root")
        if not has_overlay():
            raise EngineUnusable("this kernel has no overlay file system -> modprobe overlay")
        self._relaxed = settings.disable_sandbox_security
        self._seccomp = None if self._relaxed else load_profile(settings.seccomp_profile)
        self._apparmor = None if self._relaxed else profile_in_force(settings.apparmor_profile)
        self._catalogue = catalogue
        self._instance = instance_name(settings.state_dir)
        self._cgroups = open_cgroups(self._instance, reads=read_limit(settings.images, settings.io_read_mb_s))
        self._slots = Slots(settings.uid_base, slots)
        if not beside:
            become_subreaper()
            private_mounts()
        self._place = settings.run_dir / ("gvisor" if beside else "sandboxes")
        self._place.mkdir(mode=0o711, parents=True, exist_ok=True)
        mount("tmpfs", str(self._place), "tmpfs", MS_NOSUID, "mode=0711,size=64m")
        self._roots = RootfsMounts(self._place)
        self._runtime = open_runtime(settings.runtime, self._place / "runtime", self._instance)
        self._filter: bytes | None = None
        self._specs: dict[tuple[str, bool, bool], str] = {}
        self._lock = threading.Lock()
        self._stopped = False
        self._templates = self._open_templates(settings)

    def _open_templates(self, settings: Settings) -> TemplateSource | None:
        """Return the source of forked sandboxes, if it is wanted and possible. Raises EngineUnusable."""
        if settings.sandbox_source == "pool":
            return None
        reason = self._no_templates()
        if reason is None:
            try:
                return self._template_source(settings)
            except (EngineUnusable, OSError) as e:
                reason = str(e)
        if settings.sandbox_source == "template":
            raise EngineUnusable(f"SANDBOX_SOURCE=template: {reason}")
        log.info("sandboxes are containers of their own: %s", reason)
        return None

    def _template_source(self, settings: Settings) -> TemplateSource:
        """Create the source of templates. Raises EngineUnusable or OSError where the machine cannot have one."""
        making = EngineResources(
            self._slots, self._cgroups, self._runtime, self._instance, self._place, self._roots
        )
        return TemplateSource(
            making,
            seccomp=compile_filter(self._seccomp.data) if self._seccomp else b"",
            apparmor=template_profiles(self._apparmor) if self._apparmor else None,
            relaxed=self._relaxed,
            replaceable=settings.sandbox_source == "auto",
            wear=RotationPolicy(settings.template_runs, settings.template_minutes * 60),
            kernel_wear=kernel_rotation(settings.kernel_template_hours * 3600),
            most_owners=settings.template_keys if settings.template_scope == "key" else 0,
        )

    def _no_templates(self) -> str | None:
        """Return why sandboxes cannot be forked from templates here, or None."""
        if not (self._runtime.traits.user_namespace and self._runtime.traits.seccomp):
            return f"{self.runtime} cannot run a template"
        if unprivileged_namespaces_are_off():
            return "a template's children make user namespaces -> sysctl kernel.unprivileged_userns_clone=1"
        return None

    @property
    def runtime(self) -> str:
        return self._runtime.name

    @property
    def has_templates(self) -> bool:
        return self._templates is not None and not self._templates.by_owner

    def has_own_template(self, image: Image, flavour: str, owner: str) -> bool:
        """Return whether an owner's template can be forked; see `Engine.has_own_template`."""
        language, templates = self._catalogue.get(image.language), self._templates
        if language is None or templates is None or not templates.by_owner or not owner:
            return False
        return templates.is_booted(image, language, flavour, owner)

    def create(  # one argument for each property that is chosen
        self,
        image: Image,
        *,
        hold: bool = True,
        flavour: str = "",
        container: bool = False,
        owner: str = "",
        layer: Path | None = None,
    ) -> OciSandbox:
        """Create a sandbox of `image` with the default limits and a starting agent; see `Engine.create`."""
        language = self._catalogue.get(image.language)
        if language is None:
            raise EngineError(f"no language for image {image.language}")
        if self.has_templates:
            owner = ""  # they are everybody's
        templates = None if container or not hold else self._template_for(image, language, flavour, owner)
        if templates is not None:
            try:
                return self._branch(templates, image, language, flavour, owner, layer)
            except EngineError as e:
                if self._stopped:
                    raise
                message = "a sandbox is made as a container: %s"
                repeated.log(logging.WARNING, message, e, key=language.id, language=language.id)
        bounds = default_bounds(language)
        ours, theirs = socket.socketpair()
        sandbox = OciSandbox(secrets.token_hex(8), image, self.facts(image), bounds, ours, self._runtime.traits)
        try:
            with theirs:
                self._build(sandbox, language, theirs, layer, hold=hold)
        except BaseException as e:
            sandbox.destroy()
            if isinstance(e, OSError):
                raise EngineError(f"cannot make a sandbox: {e}") from e
            raise
        return sandbox

    def _template_for(self, image: Image, language: Language, flavour: str, owner: str) -> TemplateSource | None:
        """Return the template source to fork from. None if a container must be created."""
        templates = self._templates
        if templates is None or (templates.by_owner and not owner):
            return None
        return None if templates.in_backoff(image, language, flavour, owner) else templates

    def _branch(
        self,
        templates: TemplateSource,
        image: Image,
        language: Language,
        flavour: str,
        owner: str,
        layer: Path | None,
    ) -> OciSandbox:
        """Return a sandbox forked from a template. Raises EngineError."""
        bounds = default_bounds(language)
        ours, theirs = socket.socketpair()
        facts = replace(self.facts(image), source="template")
        sandbox = OciSandbox(secrets.token_hex(8), image, facts, bounds, ours, self._runtime.traits)
        try:
            with theirs:
                templates.fork(sandbox, language, flavour, owner, theirs, layer)
        except BaseException:
            sandbox.destroy()
            raise
        return sandbox

    def _build(
        self, sandbox: OciSandbox, language: Language, theirs: socket.socket, layer: Path | None, *, hold: bool
    ) -> None:
        undo = sandbox.undo
        slot = self._slots.take()
        undo.callback(self._slots.release, slot)
        if self._runtime.traits.seccomp:
            sandbox.expected = ExpectedStatus.of(
                slot.first_uid + RUN_UID, relaxed=self._relaxed, apparmor=self._apparmor
            )
        group = self._cgroups.create(sandbox.id)
        undo.callback(group.remove)
        sandbox.group = group
        group.set(self._runtime.traits.with_headroom(sandbox.bounds))
        bundle = f"{self._place}/{sandbox.id}"
        root = self._roots.mount(bundle, sandbox.image, layer)
        undo.callback(self._roots.remove, bundle)
        undo.callback(self._runtime.forget, sandbox.id)
        config = self._config(sandbox, language, slot, root, hold=hold)
        pid = self._runtime.start(sandbox.id, bundle, config, theirs.fileno(), group.enter)
        sandbox.attach_pid(pid)
        if self._filter is None and self._seccomp is not None:
            self._filter = self._runtime.compiled_filter(sandbox.id)

    def _config(self, sandbox: OciSandbox, language: Language, slot: Slot, root: str, *, hold: bool) -> bytes:
        compiled = self._filter is not None
        key = (sandbox.image.digest, hold, compiled)
        text = self._specs.get(key)
        if text is None:
            text = self._specs[key] = self._spec(language, hold=hold)
        namespace = f"/proc/{os.getpid()}/fd/{slot.user_namespace}"
        marks = {
            spec.ROOT_MARK: root,
            spec.USERNS_MARK: namespace,
            spec.FIRST_UID_MARK: str(slot.first_uid),
            spec.GROUP_MARK: f"/{self._instance}/{sandbox.id}",
        }
        for mark, value in marks.items():
            text = text.replace(mark, value)
        return text.encode()

    def _spec(self, language: Language, *, hold: bool) -> str:
        annotations = {}
        if self._filter is not None:
            annotations["run.oci.seccomp_bpf_data"] = base64.b64encode(self._filter).decode()
        return spec.build_spec(
            argv=language.agent_command(hold=hold),
            env={**BASE_ENV, **language.env},
            memory_bytes=DEFAULT_MEMORY_BYTES,
            build_bytes=build_bytes(language),
            seccomp=self._seccomp.data if self._seccomp else None,
            apparmor=self._apparmor,
            no_new_privileges=not self._relaxed,
            annotations=annotations,
            traits=self._runtime.traits,
        )

    def facts(self, image: Image) -> Isolation:
        """Return the confinement of a sandbox of `image`."""
        return Isolation(
            engine=self.name,
            runtime=self.runtime,
            source="pool",
            network="none",
            seccomp=self._seccomp.digest if self._seccomp and self._runtime.traits.seccomp else None,
            apparmor=self._apparmor,
            user_namespace=self._runtime.traits.user_namespace,
            image=image.digest,
            platform=self._runtime.platform,
            relaxed=self._relaxed,
        )

    def cleanup_stale(self) -> int:
        """Kill and remove the sandboxes of a killed worker of the same service."""
        groups = self._cgroups.leftovers()
        for group in groups:
            kill_all(group)
            group.remove()
        remove_empty(self._instance)  # what a runtime made under other controllers
        return len(groups)

    def stop(self) -> None:
        """See `Engine.stop`."""
        self._stopped = True
        if self._templates is not None:
            self._templates.stop()

    def close(self) -> None:
        """Release the engine's resources, after every sandbox was destroyed."""
        if self._templates is not None:
            self._templates.close()
        self._runtime.close()
        self._slots.close()
        self._roots.close()
        # Else each state directory that was ever used leaves a group in every hierarchy.
        remove_parents(self._instance)
        with contextlib.suppress(OSError):
            unmount(str(self._place))

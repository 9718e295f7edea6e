"""Boot a template: a container that gets the confinement of its children and the modules to import."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from protocol.limits import MIB
from sandbox.engines import EngineError
from sandbox.engines.apparmor import TemplateProfiles
from sandbox.engines.cgroups.group import Bounds, Cgroups
from sandbox.engines.confinement import BASE_ENV, DEFAULT_MEMORY_BYTES, build_bytes
from sandbox.engines.oci import spec
from sandbox.engines.oci.rootfs import RootfsMounts
from sandbox.engines.oci.runtime import Runtime
from sandbox.engines.oci.slots import Slots
from sandbox.engines.oci.templates.confinement import build_confinement
from sandbox.engines.oci.templates.container import BOOT_TIMEOUT_S, TEMPLATE_PREFIX, Template
from sandbox.engines.oci.templates.namespace import TemplateNamespace
from sandbox.engines.oci.templates.spec import build_template_spec
from sandbox.images import Image
from sandbox.languages import Language

log = logging.getLogger(__name__)

#: Of a template's own control group. In addition to its libraries, which are charged to it alone, it has the page
#: tables of each child, made before that is moved to a group of its own.
TEMPLATE_MEMORY_BYTES = 768 * MIB
TEMPLATE_PIDS = 512


@dataclass(frozen=True, slots=True)
class EngineResources:
    """The engine's resources for templates."""

    slots: Slots
    cgroups: Cgroups
    runtime: Runtime
    instance: str
    place: Path
    roots: RootfsMounts


class TemplateBooter:
    """Boots templates. Safe to use from several threads."""

    def __init__(
        self,
        making: EngineResources,
        namespace: TemplateNamespace,
        seccomp: bytes,
        apparmor: TemplateProfiles | None,
        *,
        relaxed: bool,
    ) -> None:
        """`seccomp` is the compiled filter, empty for none."""
        self._making = making
        self._namespace = namespace
        self._seccomp = seccomp
        self._apparmor = apparmor
        self._relaxed = relaxed
        #: Templates whose containers are not removed yet.
        self._there = 0
        #: Those among them that are not ready to fork yet.
        self._booting: set[Template] = set()
        self._closed = False
        self._change = threading.Condition()

    def boot(self, image: Image, language: Language, flavour: str) -> Template:
        """Return a template that is ready to fork. Raises EngineError or OSError."""
        making = self._making
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        template = Template(f"{TEMPLATE_PREFIX}{secrets.token_hex(8)}", ours)
        undo, name = template.undo, template.id
        try:
            with theirs:
                self._note_there()
                undo.callback(self._note_gone)
                group = making.cgroups.create(name, limited_reads=False)
                undo.callback(group.remove)
                template.group = group
                group.set(Bounds(TEMPLATE_MEMORY_BYTES, float(os.cpu_count() or 1), TEMPLATE_PIDS))
                bundle = f"{making.place}/{name}"
                root = making.roots.mount(bundle, image)
                undo.callback(making.roots.remove, bundle)
                undo.callback(making.runtime.forget, name)
                config = self._config(language, name, root)
                pid = making.runtime.start(name, bundle, config, theirs.fileno(), group.enter, limited=False)
                template.attach_pid(pid)
            modules = next((known.modules for known in language.flavours if known.name == flavour), ())
            self._note_booting(template)
            try:
                template.boot(self._confinement(language), modules)
            finally:
                self._note_booted(template)
        except BaseException:
            template.close(kill=True)
            raise
        return template

    def _note_there(self) -> None:
        with self._change:
            if self._closed:
                raise EngineError("the engine is closed")
            self._there += 1

    def _note_booting(self, template: Template) -> None:
        with self._change:
            if self._closed:
                raise EngineError("the engine is closed")
            self._booting.add(template)

    def _note_booted(self, template: Template) -> None:
        with self._change:
            self._booting.discard(template)

    def _note_gone(self) -> None:
        with self._change:
            self._there -= 1
            self._change.notify_all()

    @property
    def is_stopped(self) -> bool:
        """Return whether no template is booted any more."""
        return self._closed

    def stop(self) -> None:
        """Boot no more, and kill those that are booting: importing its libraries takes a template seconds."""
        with self._change:
            self._closed = True
            for template in self._booting:
                template.kill()

    def close(self) -> None:
        """Boot no more, and wait until every template's container is removed; each must be closed, or booting."""
        self.stop()
        with self._change:
            if not self._change.wait_for(lambda: self._there == 0, BOOT_TIMEOUT_S):
                log.error("templates are left", extra={"templates": self._there})

    def _config(self, language: Language, name: str, root: str) -> bytes:
        text = build_template_spec(
            argv=language.agent_command(hold=True),
            env={**BASE_ENV, **language.env},
            mapping=self._namespace.mapping if self._making.runtime.traits.takes_id_maps else None,
            no_new_privileges=not self._relaxed,
            apparmor=self._apparmor.template if self._apparmor else None,
        )
        marks = {
            spec.ROOT_MARK: root,
            spec.USERNS_MARK: f"/proc/{os.getpid()}/fd/{self._namespace.fd}",
            spec.GROUP_MARK: f"/{self._making.instance}/{name}",
        }
        for mark, value in marks.items():
            text = text.replace(mark, value)
        return text.encode()

    def _confinement(self, language: Language) -> bytes:
        return build_confinement(
            memory_bytes=DEFAULT_MEMORY_BYTES,
            build_bytes=build_bytes(language),
            seccomp=self._seccomp,
            no_new_privileges=not self._relaxed,
            quotas=self._namespace.quotas,
            apparmor=self._apparmor.sandbox if self._apparmor else None,
        )

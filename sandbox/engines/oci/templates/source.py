"""Where sandboxes come from that are forked: keeps a template for each image, and makes sandboxes of it."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.engines import EngineError
from sandbox.engines.cgroups import Bounds, Cgroups
from sandbox.engines.confinement import BASE_ENV, DEFAULT_MEMORY_BYTES, RUN_UID, build_bytes
from sandbox.engines.oci import spec
from sandbox.engines.oci.runtime import Runtime
from sandbox.engines.oci.sandbox import OciSandbox
from sandbox.engines.oci.slots import Slots
from sandbox.engines.oci.templates.container import (
    BOOT_TIMEOUT_S,
    GO,
    HELLO,
    HELLO_TIMEOUT_S,
    Template,
    TemplateClosed,
    receive_with_pid,
)
from sandbox.engines.oci.templates.namespace import TemplateNamespace
from sandbox.engines.oci.templates.spec import build_template_spec
from sandbox.engines.oci.templates.walls import build_walls
from sandbox.engines.posture import Expected
from sandbox.engines.syscalls import detached_copy
from sandbox.images import Image
from sandbox.job import MIB
from sandbox.languages import Language

log = logging.getLogger(__name__)

#: Of a template's own control group. Beside its libraries, which are charged to it alone, there are the page tables
#: of each child, made before that is moved to a group of its own.
TEMPLATE_MEMORY_BYTES = 768 * MIB
TEMPLATE_PIDS = 512
#: After a template that could not be made, or did not make a sandbox: containers meanwhile.
RETRY_S = 30.0


@dataclass(slots=True)
class _Place:
    """What there is for one image and flavour: the template in use, and when another may be tried."""

    flavour: str
    template: Template | None = None
    booting: bool = False
    not_before: float = 0.0
    change: threading.Condition = field(default_factory=threading.Condition)

    def await_boot(self, timeout_s: float) -> bool:
        """Wait until none is being booted; whether that has come to pass."""
        with self.change:
            return self.change.wait_for(lambda: not self.booting, timeout_s)


@dataclass(frozen=True, slots=True)
class Making:
    """What the engine lends: how it mounts a root at a bundle (undone by `undo`), and what it holds."""

    slots: Slots
    cgroups: Cgroups
    runtime: Runtime
    instance: str
    place: Path
    mount_root: Callable[[str, Image], str]
    remove_bundle: Callable[[str], None]
    unmount: Callable[[str], None]


class TemplateSource:
    """Templates, one for each image. `create` may be called from several threads."""

    def __init__(
        self,
        making: Making,
        *,
        seccomp: bytes,
        relaxed: bool,
        replaceable: bool,
        most_runs: int,
        most_seconds: float,
    ) -> None:
        """To be made before the worker has threads.

        `seccomp` is the compiled filter, empty for none; `replaceable`: containers are as good, where a template's
        sandboxes turn out not to be confined as they must be.
        """
        self._making = making
        self._seccomp = seccomp
        self._relaxed = relaxed
        self._replaceable = replaceable
        self._most_runs, self._most_seconds = most_runs, most_seconds
        self._namespace = TemplateNamespace(making.slots)
        self._places: dict[tuple[str, str], _Place] = {}
        self._lock = threading.Lock()
        self._closed = False
        #: Templates whose containers are not removed yet.
        self._there = 0
        self._gone = threading.Condition()

    def is_resting(self, image: Image, flavour: str) -> bool:
        """Whether this image's templates of a flavour have failed a moment ago."""
        return time.monotonic() < self._place(image, flavour).not_before

    def branch(self, sandbox: OciSandbox, language: Language, flavour: str, theirs: socket.socket) -> None:
        """Have `sandbox` forked, `theirs` being the agent's end of its stream. Raises EngineError.

        What fails costs the template its place: the next call makes another.
        """
        place = self._place(sandbox.image, flavour)
        try:
            first_id = self._prepare(sandbox)
            root = self._detached_root(sandbox.id, sandbox.image)
        except OSError as e:
            raise EngineError(f"cannot make a sandbox: {e}") from e
        try:
            self._fork(place, sandbox, language, first_id, theirs, root)
        finally:
            os.close(root)

    def _prepare(self, sandbox: OciSandbox) -> int:
        """Give a sandbox its slot and its control group; the first of its ids as a template knows them."""
        making, undo, stream = self._making, sandbox.undo, sandbox.stream
        slot = making.slots.take()
        undo.callback(making.slots.give_back, slot)
        sandbox.expected = Expected(
            slot.first_uid + RUN_UID, seccomp=not self._relaxed, no_new_privileges=not self._relaxed
        )
        group = making.cgroups.create(sandbox.id)
        undo.callback(group.remove)
        sandbox.group = group
        group.set(sandbox.bounds)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        stream.settimeout(HELLO_TIMEOUT_S)
        return self._namespace.first_id(slot)

    def _fork(  # what a template is sent, and who is to send it
        self,
        place: _Place,
        sandbox: OciSandbox,
        language: Language,
        first_id: int,
        theirs: socket.socket,
        root: int,
    ) -> None:
        """Have the template of the place fork a sandbox that is prepared. Raises EngineError."""
        while True:
            template = self._template(place, sandbox.image, language)
            try:
                template.branch(first_id, theirs.fileno(), root)
            except TemplateClosed:
                continue  # replaced since it was looked up: its successor is there, or a reason why not
            except EngineError:
                self._discard(place, template)
                raise
            break
        sandbox.undo.callback(template.child_gone)
        sandbox.disproved = lambda: self._disprove(place, template)
        try:
            theirs.close()  # or its end would not be seen here
            self._welcome(sandbox)
        except (EngineError, OSError) as e:
            self._discard(place, template)
            raise EngineError(f"a template did not make a sandbox: {e}") from e

    def _welcome(self, sandbox: OciSandbox) -> None:
        """Put a child that is there into its control group, and let it go on."""
        stream, group = sandbox.stream, sandbox.group
        assert group is not None
        said, pid = receive_with_pid(stream, len(HELLO))
        if said != HELLO or pid <= 0:
            raise EngineError("no child came of it")
        group.enter(pid)
        sandbox.born(pid)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        stream.send(GO)

    def _detached_root(self, name: str, image: Image) -> int:
        """A sandbox's own mount of its image, to be attached in its mount namespace; gone with the last of it."""
        bundle = f"{self._making.place}/{name}"
        root = self._making.mount_root(bundle, image)
        try:
            return detached_copy(root)
        finally:
            self._making.unmount(root)
            self._making.remove_bundle(bundle)

    # -- templates ---------------------------------------------------------------------------------

    def _place(self, image: Image, flavour: str) -> _Place:
        with self._lock:
            return self._places.setdefault((image.digest, flavour), _Place(flavour))

    def _template(self, place: _Place, image: Image, language: Language) -> Template:
        """The template of an image, booted if there is none; an old one serves until its successor is ready."""
        with place.change:
            if self._closed or time.monotonic() < place.not_before:
                raise EngineError("templates rest")
            current = place.template
            if current is not None and current.is_fit(most=self._most_runs, seconds=self._most_seconds):
                return current
            if place.booting:
                if current is not None and current.is_alive():
                    return current
                if not place.await_boot(HELLO_TIMEOUT_S):
                    raise EngineError("a template is still booting")
                if place.template is None:
                    raise EngineError("a template could not be booted")
                return place.template
            place.booting = True
        if current is not None and current.is_alive():
            threading.Thread(target=self._replace, args=(place, image, language), name="template").start()
            return current
        return self._replace(place, image, language)

    def _replace(self, place: _Place, image: Image, language: Language) -> Template:
        """Boot a template and put it in the place of whatever is there. Raises EngineError."""
        fresh: Template | None = None
        began = time.monotonic()
        try:
            fresh = self._boot(image, language, place.flavour)
            extra = {
                "language": language.id,
                "flavour": place.flavour,
                "seconds": round(time.monotonic() - began, 3),
            }
            log.info("a template is ready", extra=extra)
        except (EngineError, OSError) as e:
            log.error("a template could not be booted", extra={"language": language.id, "reason": str(e)})  # noqa: TRY400  # the text says it
            raise EngineError(f"no template: {e}") from e
        finally:
            with place.change:
                old, place.template, place.booting = place.template, fresh, False
                if fresh is None:
                    place.not_before = time.monotonic() + RETRY_S
                if self._closed and fresh is not None:
                    old, place.template = fresh, None
                place.change.notify_all()
            if old is not None:
                old.close()
        return fresh

    def _discard(self, place: _Place, template: Template) -> None:
        """It is dead, wedged, or does not do what it is for."""
        with place.change:
            if place.template is template:
                place.template = None
                if template.branched <= 1:  # it never worked: leave it be for a while
                    place.not_before = time.monotonic() + RETRY_S
        log.warning("a template is given up", extra={"template": template.id, "sandboxes": template.branched})
        template.close(kill=True)

    def _disprove(self, place: _Place, template: Template) -> bool:
        """A sandbox of it was not confined as it must be: no more of them. Whether containers will do."""
        log.error("sandboxes are no longer made from this template", extra={"template": template.id})
        with place.change:
            place.template = None
            place.not_before = math.inf
        template.close()
        return self._replaceable

    def _boot(self, image: Image, language: Language, flavour: str) -> Template:
        making = self._making
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        template = Template(f"template-{secrets.token_hex(8)}", ours)
        undo, name = template.undo, template.id
        with self._gone:
            self._there += 1
        undo.callback(self._note_gone)
        try:
            with theirs:
                group = making.cgroups.create(name)
                undo.callback(group.remove)
                template.group = group
                group.set(Bounds(TEMPLATE_MEMORY_BYTES, float(os.cpu_count() or 1), TEMPLATE_PIDS))
                bundle = f"{making.place}/{name}"
                root = making.mount_root(bundle, image)
                undo.callback(making.remove_bundle, bundle)
                undo.callback(making.unmount, root)
                undo.callback(making.runtime.forget, name)
                config = self._config(language, name, root)
                pid = making.runtime.start(name, bundle, config, theirs.fileno(), group.enter, limited=False)
                template.born(pid)
            modules = next((known.modules for known in language.flavours if known.name == flavour), ())
            template.boot(self._walls(language), modules)
        except BaseException:
            template.close(kill=True)
            raise
        return template

    def _config(self, language: Language, name: str, root: str) -> bytes:
        text = build_template_spec(
            argv=language.agent_command(hold=True),
            env={**BASE_ENV, **language.env},
            mapping=self._namespace.mapping,
        )
        marks = {
            spec.ROOT_MARK: root,
            spec.USERNS_MARK: f"/proc/{os.getpid()}/fd/{self._namespace.fd}",
            spec.GROUP_MARK: f"/{self._making.instance}/{name}",
        }
        for mark, value in marks.items():
            text = text.replace(mark, value)
        return text.encode()

    def _walls(self, language: Language) -> bytes:
        return build_walls(
            memory_bytes=DEFAULT_MEMORY_BYTES,
            build_bytes=build_bytes(language),
            seccomp=self._seccomp,
            no_new_privileges=not self._relaxed,
            quotas=self._namespace.quotas,
        )

    def _note_gone(self) -> None:
        with self._gone:
            self._there -= 1
            self._gone.notify_all()

    def close(self) -> None:
        """Let every template go, and wait for it; every sandbox must be destroyed by now."""
        with self._lock:
            self._closed = True
            places = list(self._places.values())
        for place in places:
            with place.change:
                template, place.template = place.template, None
            if template is not None:
                template.close(kill=True)
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        for place in places:
            place.await_boot(deadline - time.monotonic())  # what is booting now is let go as soon as it has
        with self._gone:
            if not self._gone.wait_for(lambda: self._there == 0, deadline - time.monotonic()):
                log.error("templates are left", extra={"templates": self._there})
        os.close(self._namespace.fd)

"""Fork sandboxes: hold a template for each image, and create sandboxes from it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.engines import EngineError
from sandbox.engines.apparmor import TemplateProfiles
from sandbox.engines.confinement import RUN_UID
from sandbox.engines.oci.sandbox import OciSandbox
from sandbox.engines.oci.templates.boot import EngineResources, TemplateBooter
from sandbox.engines.oci.templates.container import (
    GO,
    HELLO,
    HELLO_TIMEOUT_S,
    Template,
    TemplateClosed,
    receive_with_pid,
)
from sandbox.engines.oci.templates.holder import RotationPolicy, TemplateHolder
from sandbox.engines.oci.templates.lru import OwnerLru
from sandbox.engines.oci.templates.namespace import TemplateNamespace
from sandbox.engines.pid1_status import ExpectedStatus
from sandbox.images import Image
from sandbox.languages import KERNEL_FLAVOUR, Language

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Owners' templates that are booted at the same time: behind runs, which get containers meanwhile.
OWN_BOOTS = 1


class TemplateSource:
    """Templates, one for each image, flavour and owner. Its methods may be called from several threads."""

    def __init__(
        self,
        making: EngineResources,
        *,
        seccomp: bytes,
        apparmor: TemplateProfiles | None,
        relaxed: bool,
        replaceable: bool,
        wear: RotationPolicy,
        kernel_wear: RotationPolicy,
        most_owners: int = 0,
    ) -> None:
        """Create the source, before the worker has threads.

        `seccomp` is the compiled filter, empty for none; `apparmor` names the profiles of templates and of their
        children; `kernel_wear` is for templates of sessions, `wear` for all others; `replaceable`: containers are
        as good, where a template's sandboxes turn out not to be confined as they must be; `most_owners`: each has
        its own, or, with none, they are everybody's.
        """
        self._making = making
        self._relaxed = relaxed
        self._apparmor = apparmor.sandbox if apparmor is not None else None
        self._replaceable = replaceable
        self._wear = wear
        self._kernel_wear = kernel_wear
        self._namespace = TemplateNamespace(making.slots)
        self._booter = TemplateBooter(making, self._namespace, seccomp, apparmor, relaxed=relaxed)
        self._places: dict[tuple[str, str, str], TemplateHolder] = {}
        self._lock = threading.Lock()
        self.by_owner = most_owners > 0
        self._owners = OwnerLru(most_owners, unused_s=wear.most_seconds)
        #: Owners whose templates have not all gone yet.
        self._leaving: set[str] = set()
        self._boots = threading.Semaphore(OWN_BOOTS)

    def in_backoff(self, image: Image, language: Language, flavour: str, owner: str) -> bool:
        """Return whether this image's templates of a variant failed a moment ago."""
        return self._place(image, language, flavour, owner).in_backoff()

    def is_booted(self, image: Image, language: Language, flavour: str, owner: str) -> bool:
        """Return whether an owner's template is ready; if not, boot it in the background when its turn comes."""
        self._give_up(self._owners.use(owner), owner)
        place = self._place(image, language, flavour, owner)
        if place.is_booted():
            return True
        place.boot_in_background(self._boots)
        return False

    def _give_up(self, owners: Iterable[str], user: str) -> None:
        """Let the templates of owners go, and not those of `user`.

        One whose generations are bounded goes when none of its sandboxes lives: else its owner's next one would be
        a generation that is not counted.
        """
        with self._lock:
            self._leaving.update(owners)
            self._leaving.discard(user)
            if not self._leaving:
                return
            places = [(key, place) for key, place in self._places.items() if key[2] in self._leaving]
            leaving = [(key, place) for key, place in places if not place.is_bounding_generations()]
            for key, _ in leaving:
                del self._places[key]
            self._leaving = {key[2] for key, _ in places if key in self._places}
        for _, place in leaving:
            place.close()

    def fork(
        self,
        sandbox: OciSandbox,
        language: Language,
        flavour: str,
        owner: str,
        theirs: socket.socket,
        layer: Path | None = None,
    ) -> None:
        """Have `sandbox` forked, `theirs` being the agent's end of its stream; `layer` is one more of its root's.

        Raises EngineError.

        On failure the template is discarded; the next call boots a new one.
        """
        place = self._place(sandbox.image, language, flavour, owner)
        try:
            first_id = self._prepare(sandbox)
            root = self._making.roots.detached(sandbox.image, layer)
        except OSError as e:
            raise EngineError(f"cannot make a sandbox: {e}") from e
        try:
            template = _fork_from(place, sandbox, first_id, theirs.fileno(), root)
        finally:
            os.close(root)
        sandbox.disproved = lambda: self._quarantine(place, template)
        sandbox.outdated = template.is_closed
        sandbox.failed = lambda: place.discard(template, rest=True)
        try:
            theirs.close()  # or its end would not be seen here
            _adopt_child(sandbox)
        except (EngineError, OSError) as e:
            place.discard(template)
            raise EngineError(f"a template did not make a sandbox: {e}") from e

    def _prepare(self, sandbox: OciSandbox) -> int:
        """Give a sandbox its slot and its control group; the first of its ids as a template knows them."""
        making, undo, stream = self._making, sandbox.undo, sandbox.stream
        slot = making.slots.take()
        undo.callback(making.slots.release, slot)
        sandbox.expected = ExpectedStatus.of(
            slot.first_uid + RUN_UID, relaxed=self._relaxed, apparmor=self._apparmor
        )
        group = making.cgroups.create(sandbox.id)
        undo.callback(group.remove)
        sandbox.group = group
        group.set(sandbox.bounds)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        stream.settimeout(HELLO_TIMEOUT_S)
        return self._namespace.first_id(slot)

    def _place(self, image: Image, language: Language, flavour: str, owner: str) -> TemplateHolder:
        key = (image.digest, flavour, owner)
        with self._lock:
            place = self._places.get(key)
            if place is None:
                wear = self._kernel_wear if flavour == KERNEL_FLAVOUR else self._wear
                place = self._places[key] = TemplateHolder(self._booter, image, language, flavour, wear)
            return place

    def _quarantine(self, place: TemplateHolder, template: Template) -> bool:
        """Stop forking, because a sandbox was not confined as required; return whether containers may be used."""
        place.quarantine(template)
        return self._replaceable

    def stop(self) -> None:
        """Boot no more; what is being booted fails at once."""
        self._booter.stop()

    def close(self) -> None:
        """Let every template go, and wait for it; every sandbox must be destroyed by now."""
        with self._lock:
            places = list(self._places.values())
        for place in places:
            place.close(kill=True)
        self._booter.close()
        os.close(self._namespace.fd)


def _fork_from(place: TemplateHolder, sandbox: OciSandbox, first_id: int, stream_fd: int, root_fd: int) -> Template:
    """Return the template that got the request to fork the prepared sandbox. Raises EngineError."""
    while True:
        template = place.get()
        try:
            template.fork(first_id, stream_fd, root_fd)
        except TemplateClosed:
            continue  # replaced since it was looked up: its successor is there, or a reason why not
        except EngineError:
            place.discard(template)
            raise
        sandbox.undo.callback(template.child_gone)
        return template


def _adopt_child(sandbox: OciSandbox) -> None:
    """Put a child that is there into its control group, and let it go on. Raises EngineError or OSError."""
    stream, group = sandbox.stream, sandbox.group
    assert group is not None
    said, pid = receive_with_pid(stream, len(HELLO))
    if said != HELLO or pid <= 0:
        raise EngineError("no child came of it")
    group.enter(pid)
    sandbox.attach_pid(pid)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    stream.send(GO)

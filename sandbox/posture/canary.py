"""The canaries of one engine: each image's first sandbox is measured, and what was found is kept for who asks."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from sandbox.agent_client.readiness import await_ready
from sandbox.availability import Availability
from sandbox.engines import Engine, EngineError, NotConfined, Sandbox
from sandbox.engines.apparmor import PROFILE
from sandbox.engines.confinement import apparmor_is_on
from sandbox.engines.remedies import remedy_for
from sandbox.images import Image
from sandbox.languages import Catalogue
from sandbox.posture.facts import read_facts
from sandbox.posture.golden import Finding, compare, load_golden
from sandbox.posture.layers import BY_NAME, LAYERS

log = logging.getLogger(__name__)

#: Canaries at the same time, at the start.
TOGETHER = 3
#: A helper that a runtime leaves behind is in the sandbox's group for a moment, and processes come and go while an
#: interpreter boots: what is missing is looked at again before it is believed.
LOOKS, LOOK_AGAIN_S = 4, 0.25


def settled(look: Callable[[], list[Finding]]) -> list[Finding]:
    """Return the findings once nothing is missing, or those of the last look. Raises EngineError."""
    for again in reversed(range(LOOKS)):
        try:
            found = look()
        except EngineError:
            if not again:
                raise
        else:
            if not again or all(finding.state != "missing" for finding in found):
                return found
        time.sleep(LOOK_AGAIN_S)
    raise AssertionError("looked at nothing")


def _kind(sandbox: Sandbox) -> tuple[str, str]:
    """Return the properties that sandboxes share if one represents the others: the image, and how they are made."""
    return sandbox.image.digest, sandbox.facts().source


def _is_replaced(sandbox: Sandbox, problem: str) -> bool:
    """Return whether the engine continues without the source of this sandbox."""
    replaced = sandbox.quarantine_source()
    if replaced:
        log.error("sandboxes are made in another way, as these are not confined as they must be: %s", problem)
    return replaced


class Posture:
    """The measured confinement of one engine's sandboxes, by image. Safe to use from several threads."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        *,
        apparmor: str | None,
        relaxed: bool,
        availability: Availability | None = None,
    ) -> None:
        """`apparmor` is the profile in use; `availability` records which canaries started.

        Raises EngineUnusable where there is no posture file.
        """
        self._availability = availability or Availability()
        self._engine = engine
        self._catalogue = catalogue
        self._golden = load_golden(engine.name, engine.runtime)
        # With AppArmor in the kernel a label is required: without a profile in use, the layer is missing.
        self._apparmor = (apparmor or PROFILE) if apparmor_is_on() else None
        self._relaxed = relaxed
        self._lock = threading.Lock()
        self._found: dict[str, list[Finding]] = {}
        self._good: set[tuple[str, str]] = set()
        #: Called once, with a description, when a later sandbox lacks a layer.
        self.on_failure: Callable[[str], None] | None = None

    @property
    def name(self) -> str:
        return f"{self._engine.name}/{self._engine.runtime}"

    def inspect(self, sandbox: Sandbox) -> None:
        """Measure a sandbox that is ready, unless one of its kind was found good before. Raises NotConfined."""
        if _kind(sandbox) in self._good:
            return
        problem = self._judge(sandbox)
        if problem is None:
            return
        if _is_replaced(sandbox, problem):
            raise EngineError(problem)
        if self.on_failure is not None:
            self.on_failure(problem)
        raise NotConfined(problem)

    def _judge(self, sandbox: Sandbox) -> str | None:
        """Record the state of an image's canary. Returns a description of missing layers. Raises EngineError."""
        image = sandbox.image
        findings = settled(lambda: self._findings(sandbox))
        missing = [finding for finding in findings if finding.state == "missing"]
        with self._lock:
            self._found[image.language] = findings
            if not missing:
                self._good.add(_kind(sandbox))
                return None
        words = "; ".join(f"{one.layer} is not in force ({one.detail}) -> {one.mend}" for one in missing)
        return f"{self.name}, image {image.language}: {words}"

    def _findings(self, sandbox: Sandbox) -> list[Finding]:
        language = self._catalogue.get(sandbox.image.language)
        if language is None:
            raise EngineError(f"no language for image {sandbox.image.language}")
        facts = read_facts(sandbox.process_view(), language)
        return compare(facts, self._golden, apparmor=self._apparmor, relaxed=self._relaxed)

    def send_canaries(self, images: Iterable[Image]) -> None:
        """Make, measure and remove a sandbox of each image. Raises NotConfined.

        One that cannot even be started is left to the pool, which tries again, and has its first one inspected.
        """
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="canary") as together:
            problems = [problem for problem in together.map(self._send, images) if problem is not None]
        if problems:
            raise NotConfined(problems[0])

    def _send(self, image: Image) -> str | None:
        try:
            with contextlib.ExitStack() as undo:
                sandbox = self._engine.create(image)
                undo.callback(sandbox.destroy)
                await_ready(sandbox)
                problem = self._judge(sandbox)
                if problem is None:
                    self._availability.succeeded(image.language)
                if problem is None or not _is_replaced(sandbox, problem):
                    return problem
            return self._send(image)  # of what it is made from instead
        except EngineError as e:
            extra = {"language": image.language, "reason": str(e), "remedy": remedy_for(str(e))}
            log.error("a canary could not be measured", extra=extra)  # noqa: TRY400
            self._availability.failed(image.language, str(e))
            return None

    def report(self) -> list[Finding]:
        """Return the worst state of each layer over all images."""
        worst: dict[str, Finding] = {}
        with self._lock:
            for findings in self._found.values():
                for finding in findings:
                    kept = worst.get(finding.layer)
                    if kept is None or (finding.state == "missing" and kept.state != "missing"):
                        worst[finding.layer] = finding
        return [worst[name] for name in BY_NAME if name in worst]

    def summary(self) -> dict[str, str]:
        """Return the required layers, by name: `ok`, or `fail` for one that is missing or was never measured."""
        measured = {one.layer: "fail" if one.state == "missing" else "ok" for one in self.report() if one.required}
        return dict.fromkeys(self._required(), "fail") | measured

    def _required(self) -> Iterator[str]:
        """Yield the layers that every sandbox here must have, as far as that is known before one is measured."""
        for layer in LAYERS:
            needed = layer.need == "yes" or (layer.need == "kernel" and self._apparmor is not None)
            # gVisor's file lacks what no host can see of it; only what is compiled has the place for it.
            needed = needed and layer.name in self._golden and layer.name != "build_directory"
            if needed and not (self._relaxed and layer.relaxable):
                yield layer.name

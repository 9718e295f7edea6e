"""The warm pool: sandboxes started ahead of need, each used once, made again in the background.

Fillers sleep until there is something to make, or to be seen: whether sandboxes can be made. They pause during
runs, and until the answer to the last run has had the time to reach its client. A thread of its own destroys used
sandboxes, after the reply.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from config.repeats import RepeatedLog
from protocol.result import Source
from sandbox.agent_client.readiness import is_waiting
from sandbox.availability import Availability
from sandbox.engines import Engine, EngineError, NotConfined, Sandbox
from sandbox.engines.remedies import remedy_for
from sandbox.images import Image, Images
from sandbox.languages import Language
from sandbox.metrics import Metrics
from sandbox.pool.layer_queues import Ended, LayerQueue
from sandbox.pool.ready_queue import ReadyQueue
from sandbox.pool.ready_queues import ReadyQueues
from sandbox.pool.starter import SandboxStarter
from sandbox.pool.wakeup import DelayedWakeup
from sandbox.run.package_layers import ReadyLayer

log = logging.getLogger(__name__)
repeated = RepeatedLog(log)

#: Starts at the same time: one more than there are processors, since each also waits for the kernel a little.
STARTS = (os.cpu_count() or 1) + 1
FILLERS = min(STARTS - 1, 8)
#: From a run's end here to its answer there: it is put together, recorded and sent in half of that.
RESPONSE_GRACE_S = 0.002
#: The time in which a sandbox that is being made has gone, or at least is ready.
RELEASE_S = 5.0


class NotReady(Exception):
    """The language's image is not built yet."""


class WarmPool:
    """Ready sandboxes of every language whose image is built."""

    def __init__(
        self,
        engine: Engine,
        images: Images,
        sizes: dict[Language, int],
        metrics: Metrics | None = None,
        *,
        inspect: Callable[[Sandbox], None] = lambda _sandbox: None,
        availability: Availability | None = None,
        tries: bool = True,
        layers: int = 0,
    ) -> None:
        """`inspect` checks every ready sandbox, and may raise NotConfined; `availability` records each attempt to
        make one. Without `tries` no sandbox is made only as a test. A sandbox waits for each of up to so many
        `layers` of packages.
        """
        self.availability = availability or Availability()
        self._engine = engine
        self._images = images
        self._queues = ReadyQueues(
            engine, sizes, self.availability, tries=tries, layers=layers, dispose=self.discard
        )
        self._metrics = metrics or Metrics()
        self._starter = SandboxStarter(engine, self._metrics, inspect)
        self._used: deque[Sandbox | Ended] = deque()
        self._lull = DelayedWakeup(RESPONSE_GRACE_S)
        # More would only slow each other down; waiting for a turn, a run may be handed one that is ready.
        self._starts = threading.Semaphore(STARTS)
        self._threads = [threading.Thread(target=self._fill, name=f"fill-{n}") for n in range(FILLERS)]
        self._threads.append(threading.Thread(target=self._destroy_used, name="tidy-up"))

    @property
    def confined(self) -> bool | None:
        """Return whether the last sandbox had every required layer; None before the first."""
        return self._starter.confined

    @property
    def landlock(self) -> int | None:
        """Return the version of Landlock that the last agent enabled, 0 if the kernel has none for it."""
        return self._starter.landlock

    def start(self) -> None:
        """Begin to fill."""
        for thread in self._threads:
            thread.start()

    # -- for runs ----------------------------------------------------------------------------------

    def check(self, language: Language) -> None:
        """Check that the language's image is built. Raises NotReady."""
        self._image(language)

    def take(
        self, language: Language, flavour: str = "", owner: str = "", *, layer: ReadyLayer | None = None
    ) -> tuple[Sandbox, Source]:
        """Return a ready sandbox: a waiting one, or a new one if none waits. Raises NotReady, EngineError.

        `flavour` names the preferred template, if it exists. If each owner has its own templates, the sandbox is
        forked now from one of the owner's, if it is booted. `layer` is of packages that it is to have.
        """
        found = (
            self._forked_for(owner, language, flavour)
            if layer is None
            else self._with_layer(language, owner, layer)
        )
        if found is None:
            found = self._take_ready(language, flavour)
        sandbox, source = found
        if sandbox.facts().source == "template":
            source = "template"
        self._metrics.taken.labels(language.id, source).inc()
        return sandbox, source

    def _with_layer(self, language: Language, owner: str, layer: ReadyLayer) -> tuple[Sandbox, Source]:
        """Return a sandbox with packages, from the template without libraries where there is one.

        Other templates have imported libraries, of which the packages may be other versions.
        """
        image = self._image(language)
        queue = self._queues.use_layer(language, image, layer, owner)
        if (sandbox := self._from_queue(queue, image)) is not None:
            return sandbox, "pool"
        self._metrics.misses.labels(language.id).inc()
        with self._starts:
            if (sandbox := self._from_queue(queue, image)) is not None:
                return sandbox, "pool"
            return self._create_with_retry(
                image, lambda: self._starter.start(image, owner=owner, layer=layer.files)
            ), "cold"

    def _forked_for(self, owner: str, language: Language, flavour: str) -> tuple[Sandbox, Source] | None:
        image = self._image(language)
        if not self._engine.has_own_template(image, flavour, owner):
            return None
        try:
            with self._starts:
                return self._starter.start(image, flavour=flavour, owner=owner), "cold"
        except EngineError as e:
            message = "no sandbox came of a key's template: %s"
            repeated.log(logging.WARNING, message, e, key=language.id, language=language.id)
            return None

    def _take_ready(self, language: Language, flavour: str) -> tuple[Sandbox, Source]:
        image, queue = self._image(language), self._queues.find(language, flavour)
        if (sandbox := self._from_queue(queue, image)) is not None:
            return sandbox, "pool"
        self._metrics.misses.labels(language.id).inc()
        with self._starts:
            # One may have become ready in the time spent waiting for a turn.
            if (sandbox := self._from_queue(queue, image)) is not None:
                return sandbox, "pool"
            return self._create_with_retry(image, lambda: self._make(queue, image)), "cold"

    def start_cold(self, language: Language, *, hold: bool = False, layer: ReadyLayer | None = None) -> Sandbox:
        """Start a sandbox in its own container, without a preloaded interpreter unless `hold`.

        `layer` is of packages that it is to have. Raises NotReady, EngineError.
        """
        image, queue = self._image(language), self._queues.find_containers(language)
        with self._starts:
            sandbox = self._create_with_retry(
                image,
                lambda: (
                    self._make(queue, image, hold=hold, container=True)
                    if layer is None
                    else self._starter.start(image, hold=hold, container=True, layer=layer.files)
                ),
            )
        self._metrics.taken.labels(language.id, "cold").inc()
        return sandbox

    def release_layer(self, files: Path) -> None:
        """Have no sandbox wait with a layer that is to be removed from the disk."""
        ended = self._queues.release_layer(files, RELEASE_S)
        if ended is not None:
            ended.destroy()

    def discard(self, sandbox: Sandbox | Ended) -> None:
        """Take a used sandbox apart, on another thread and in a moment."""
        self._used.append(sandbox)
        self._lull.request()

    def run_begins(self) -> None:
        """Note the start of a run: fillers wait while the pool is at least half full."""
        self._queues.run_begins()

    def run_ends(self) -> None:
        """Note the end of a run: the fillers may continue shortly."""
        self._queues.run_ends()
        self._lull.request()

    def images_changed(self) -> None:
        """Look again at what can be filled."""
        self._queues.images_changed()

    def ensure_minimum_one(self, language: Language) -> None:
        """Have at least one of a language warm from now on."""
        self._queues.ensure_minimum_one(language)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the sandboxes that are ready and those that are wanted, by language."""
        return self._queues.counts()

    # -- making ------------------------------------------------------------------------------------

    def _image(self, language: Language) -> Image:
        image = self._images.get(language.id)
        if image is None:
            raise NotReady(language.id)
        return image

    def _from_queue(self, queue: ReadyQueue | None, image: Image) -> Sandbox | None:
        """Return the longest-waiting sandbox of the current image that is still alive."""
        while True:
            sandbox = None if queue is None else self._queues.take(queue)
            if sandbox is None:
                return None
            if sandbox.image.digest == image.digest and is_waiting(sandbox):
                return sandbox
            self.discard(sandbox)

    def _create_with_retry(self, image: Image, make: Callable[[], Sandbox]) -> Sandbox:
        """Return the sandbox that `make` starts, with one retry: nothing of the run has been started, so it need
        not fail.
        """
        try:
            return make()
        except NotConfined:
            raise
        except EngineError as e:
            message = "a sandbox could not be made; trying once more: %s"
            repeated.log(logging.WARNING, message, e, key=image.language, language=image.language)
        return make()

    def _make(self, queue: ReadyQueue, image: Image, *, hold: bool = True, container: bool = False) -> Sandbox:
        """Start a sandbox for that queue, and record whether it succeeded."""
        try:
            sandbox = self._starter.start(image, hold=hold, flavour=queue.flavour, container=container)
        except EngineError as e:
            self._queues.pause(queue)
            self.availability.failed(queue.name, str(e))
            self._queues.images_changed()
            raise
        failures = self.availability.succeeded(queue.name)
        if failures:
            self._queues.resume(queue, failures)
        return sandbox

    def _fill(self) -> None:
        while (chosen := self._queues.next_to_fill(self._images.get)) is not None:
            queue, image = chosen
            if isinstance(queue, LayerQueue):
                self._fill_layer(queue, image)
                continue
            try:
                with self._starts:
                    sandbox = self._make(queue, image, hold=not queue.container, container=queue.container)
            except EngineError as e:
                if self._queues.is_closed:  # the engine is stopping
                    return
                language = queue.language.id
                remedy = remedy_for(str(e))
                message = "a warm sandbox could not be made"
                repeated.log(logging.ERROR, message, key=language, language=language, reason=str(e), remedy=remedy)
                self._queues.give_up(queue)
                continue
            if not self._queues.put(queue, sandbox):
                sandbox.destroy()

    def _fill_layer(self, queue: LayerQueue, image: Image) -> None:
        """Make the sandbox that is to wait with a layer. If that fails, the next run with it makes its own."""
        try:
            with self._starts:
                sandbox = self._starter.start(image, layer=queue.files)
        except EngineError as e:
            self._queues.give_up(queue)
            self._queues.end_layer(queue)
            if not self._queues.is_closed:
                message = "a sandbox with packages could not be made ahead: %s"
                repeated.log(logging.WARNING, message, e, key=image.language, language=image.language)
            return
        if not self._queues.put(queue, sandbox):
            sandbox.destroy()
            self._queues.end_layer(queue)

    def _destroy_used(self) -> None:
        """Do what runs have left to do, whenever some have ended."""
        goes_on = True
        while goes_on:
            goes_on = self._lull.wait()
            self._queues.settle_finished_runs()
            while self._used:
                self._used.popleft().destroy()
                self._queues.settle_finished_runs()  # their end may have taken a while

    def close(self) -> None:
        """Stop filling and take everything apart."""
        waiting = self._queues.close()
        self._engine.stop()
        for sandbox in waiting:
            sandbox.kill()
        for sandbox in waiting:
            self.discard(sandbox)
        for thread in self._threads[:-1]:
            thread.join()
        self._lull.end()
        self._threads[-1].join()

"""Hold the sandboxes that wait in the warm pool, and choose which to make next.

While runs are active, a queue refills only when it is below half its size: on a small machine, making the next
sandbox would slow the present run.

Sandboxes that wait with a layer of packages (`layer_queues.py`) are made when no other is wanted.

After a failure, and before a language's first sandbox, one sandbox is made in any case, independent of the
queue's length: it shows whether sandboxes can be made. Otherwise there is no such check.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sandbox.availability import FAILING_FROM, Availability
from sandbox.engines import Engine, Sandbox
from sandbox.images import Image
from sandbox.languages import Language
from sandbox.pool.layer_queues import Ended, LayerQueue, LayerQueues
from sandbox.pool.ready_queue import CONTAINER, ReadyQueue, queue_name
from sandbox.pool.sizes import flavour_sizes
from sandbox.run.package_layers import ReadyLayer

#: After the first failure to make a sandbox; twice as long after each further one in a row.
RETRY_S, LONGEST_RETRY_S = 2.0, 60.0


class ReadyQueues:
    """The queues of all languages, and the counts of runs. Safe for many threads."""

    def __init__(
        self,
        engine: Engine,
        sizes: Mapping[Language, int],
        availability: Availability,
        clock: Callable[[], float] = time.monotonic,
        *,
        tries: bool = True,
        layers: int = 0,
        dispose: Callable[[Sandbox | Ended], None] = lambda ended: ended.destroy(),
    ) -> None:
        """Create a queue for each language and, where the engine has templates, for each variant and for
        containers.

        `availability` knows what is in doubt; without `tries` nothing is made to settle that. A sandbox waits for
        each of up to so many `layers`; `dispose` takes apart one that is not wanted any more, without blocking.
        """
        self._tries = tries
        queues = [ReadyQueue(language, size) for language, size in sizes.items()]
        if engine.has_templates:
            queues += [ReadyQueue(language, size, name) for (language, name), size in flavour_sizes(sizes).items()]
            queues += [ReadyQueue(language, 0, container=True) for language in sizes]
        self._queues = {queue.name: queue for queue in queues}
        self._availability = availability
        self._clock = clock
        self._layers = LayerQueues(layers, clock, dispose)
        self._change = threading.Condition()
        self._closed = False
        self._busy = 0
        #: Of the busy, those whose run has ended.
        self._ended = 0

    def find(self, language: Language, flavour: str) -> ReadyQueue:
        """Return the variant's queue, or the language's own if the variant has none."""
        return self._queues.get(queue_name(language, flavour)) or self._queues[queue_name(language, "")]

    def find_containers(self, language: Language) -> ReadyQueue:
        """Return the one of the language's containers: its own, where that holds such."""
        return self.find(language, CONTAINER)

    def use_layer(self, language: Language, image: Image, layer: ReadyLayer, owner: str) -> LayerQueue | None:
        """Note that a run of a key asks for a layer that it holds, and return the layer's queue.

        Returns None if it has none: no sandbox of the language is to wait, or none with packages.
        """
        with self._change:
            if self._closed or not self.find(language, "").size:
                return None
            had_none = self._layers.next_due_s() is None
            queue = self._layers.use(language, image, layer, owner)
            if queue is not None and had_none:
                self._change.notify()  # a filler has to look at the time from now on
            return queue

    def release_layer(self, files: Path, patience_s: float) -> Ended | None:
        """End the queue of a layer that is to be removed, and return its remains.

        A sandbox that is on its way is waited for; its maker takes it apart.
        """
        with self._change:
            queue = self._layers.find(files)
            if queue is None:
                return None
            ended = self._layers.end(queue)
            self._change.wait_for(lambda: queue.lock < 0, patience_s)
            return ended

    def take(self, queue: ReadyQueue) -> Sandbox | None:
        """Return the sandbox that has waited longest."""
        with self._change:
            if not queue.ready:
                return None
            sandbox = queue.ready.popleft()
            if self._wants(queue):
                self._change.notify()
        return sandbox

    def next_to_fill(self, image_of: Callable[[str], Image | None]) -> tuple[ReadyQueue, Image] | None:
        """Wait for a queue that wants filling, the emptiest first; one more is then on its way. None at the end."""
        with self._change:
            while not self._closed:
                self._layers.sweep(image_of)
                for queue in self._in_order():
                    image = image_of(queue.language.id) if self._wants(queue) else None
                    if image is not None:
                        queue.making += 1
                        if any(map(self._wants, self._in_order())):
                            self._change.notify()
                        return queue, image
                self._change.wait(self._longest_sleep_s())
        return None

    @property
    def is_closed(self) -> bool:
        """Return whether nothing is filled any more."""
        return self._closed

    def put(self, queue: ReadyQueue, sandbox: Sandbox) -> bool:
        """Add a started sandbox. Return False if it is no longer wanted, or was made only as a test."""
        with self._change:
            queue.making -= 1
            wanted = not self._closed and len(queue.ready) < queue.size
            if wanted:
                queue.ready.append(sandbox)
            return wanted

    def end_layer(self, queue: LayerQueue) -> None:
        """Release the layer of a queue whose sandbox could not be made, or was not wanted any more."""
        with self._change:
            ended = self._layers.end(queue)
            if ended is not None:
                ended.destroy()
            self._change.notify_all()

    def give_up(self, queue: ReadyQueue) -> None:
        """Note that a sandbox that was being started will not come."""
        with self._change:
            queue.making -= 1

    def pause(self, queue: ReadyQueue) -> None:
        """Want none for a while, as one could not be made: longer after each failure in a row.

        Those that fail meanwhile, as fillers and runs do together, are of the same failure.
        """
        with self._change:
            if self._is_paused(queue):
                return
            queue.paused_until = self._clock() + min(LONGEST_RETRY_S, RETRY_S * 2**queue.failures)
            queue.failures += 1

    def resume(self, queue: ReadyQueue, failures: int) -> None:
        """End the pause, as one was made after so many failures.

        If that many count, a cause was fixed, and the others are worth an attempt too.
        """
        with self._change:
            queue.failures = 0
            for one in self._queues.values() if failures >= FAILING_FROM else [queue]:
                one.paused_until = float("-inf")
            self._change.notify_all()

    def run_begins(self) -> None:
        """Note that another run has begun."""
        with self._change:
            self._busy += 1

    def run_ends(self) -> None:
        """Note the end of a run; it counts as active until `forget_ended`."""
        with self._change:
            self._ended += 1

    def settle_finished_runs(self) -> None:
        """Stop counting ended runs as active, so that their sandboxes are replaced."""
        with self._change:
            if self._ended:
                self._busy -= self._ended
                self._ended = 0
                self._layers.run_has_ended()
                self._change.notify()

    def images_changed(self) -> None:
        """Note that there may be new images, or doubts about those that are there."""
        with self._change:
            self._change.notify_all()

    def ensure_minimum_one(self, language: Language) -> None:
        """Want at least one of a language from now on."""
        with self._change:
            queue = self._queues[queue_name(language, "")]
            if queue.size == 0:
                queue.size = 1
                self._change.notify_all()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the sandboxes that are ready and those that are wanted, by language."""
        with self._change:
            return {
                name: {"ready": len(queue.ready), "size": queue.size}
                for name, queue in self._queues.items()
                if not queue.container
            } | self._layers.counts()

    def close(self) -> list[Sandbox | Ended]:
        """Want nothing any more; everything that waited."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            waiting: list[Sandbox | Ended] = [sandbox for queue in self._queues.values() for sandbox in queue.ready]
            waiting += self._layers.close()
            for queue in self._queues.values():
                queue.ready.clear()
        return waiting

    def _in_order(self) -> Iterator[ReadyQueue]:
        """Yield the queues in the order in which they are filled."""
        yield from sorted(self._queues.values(), key=lambda queue: queue.fill_ratio)
        yield from self._layers

    def _wants(self, queue: ReadyQueue) -> bool:
        if isinstance(queue, LayerQueue):
            return self._layers.wants(queue)
        lacks = queue.ready_or_starting < (queue.size if self._busy == 0 else (queue.size + 1) // 2)
        tries = self._tries and not lacks and queue.making == 0 and self._availability.is_doubtful(queue.name)
        return (lacks or tries) and not self._is_paused(queue)

    def _is_paused(self, queue: ReadyQueue) -> bool:
        return self._clock() < queue.paused_until

    def _longest_sleep_s(self) -> float | None:
        """Return the seconds until there may be something to do: a pause ends, or layers are to be looked at.

        None if only a change can be a reason.
        """
        at = self._clock()
        pauses = [one.paused_until - at for one in self._queues.values() if one.paused_until > at]
        due_s = self._layers.next_due_s()
        return min(pauses if due_s is None else [*pauses, due_s], default=None)

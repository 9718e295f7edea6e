"""Hold the sandboxes that wait in the warm pool, and choose which to make next.

While runs are active, a queue refills only when it is below half its size: on a small machine, making the next
sandbox would slow the present run.

After a failure, and before a language's first sandbox, one sandbox is made in any case, independent of the
queue's length: it shows whether sandboxes can be made. Otherwise there is no such check.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox.availability import FAILING_FROM, Availability
from sandbox.engines import Engine, Sandbox
from sandbox.images import Image
from sandbox.languages import Language
from sandbox.pool.sizes import flavour_sizes

#: After the first failure to make a sandbox; twice as long after each further one in a row.
RETRY_S, LONGEST_RETRY_S = 2.0, 60.0
#: The way of a sandbox that is a container of its own where others are forked.
CONTAINER = "container"


@dataclass(slots=True)
class ReadyQueue:
    """One language's ready sandboxes, those of one flavour of it, or its containers, of which none are kept.

    `making` are on their way.
    """

    language: Language
    size: int
    flavour: str = ""
    container: bool = False
    ready: deque[Sandbox] = field(default_factory=deque)
    making: int = 0
    #: In a row, of making one.
    failures: int = 0
    #: Until this time no sandbox is made.
    paused_until: float = float("-inf")
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = _name(self.language, CONTAINER if self.container else self.flavour)

    @property
    def ready_or_starting(self) -> int:
        """Return the number of sandboxes that are ready or being started."""
        return len(self.ready) + self.making

    @property
    def fill_ratio(self) -> float:
        """Return how full the queue is, from 0 to 1."""
        return self.ready_or_starting / max(self.size, 1)


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
    ) -> None:
        """Create a queue for each language and, where the engine has templates, for each variant and for
        containers.

        `availability` knows what is in doubt; without `tries` nothing is made to settle that.
        """
        self._tries = tries
        queues = [ReadyQueue(language, size) for language, size in sizes.items()]
        if engine.has_templates:
            queues += [ReadyQueue(language, size, name) for (language, name), size in flavour_sizes(sizes).items()]
            queues += [ReadyQueue(language, 0, container=True) for language in sizes]
        self._queues = {queue.name: queue for queue in queues}
        self._availability = availability
        self._clock = clock
        self._change = threading.Condition()
        self._closed = False
        self._busy = 0
        #: Of the busy, those whose run has ended.
        self._ended = 0

    def find(self, language: Language, flavour: str) -> ReadyQueue:
        """Return the variant's queue, or the language's own if the variant has none."""
        return self._queues.get(_name(language, flavour)) or self._queues[_name(language, "")]

    def find_containers(self, language: Language) -> ReadyQueue:
        """Return the one of the language's containers: its own, where that holds such."""
        return self.find(language, CONTAINER)

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
                for queue in sorted(self._queues.values(), key=lambda queue: queue.fill_ratio):
                    image = image_of(queue.language.id) if self._wants(queue) else None
                    if image is not None:
                        queue.making += 1
                        if any(map(self._wants, self._queues.values())):
                            self._change.notify()
                        return queue, image
                self._change.wait(self._shortest_pause_s())
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
                self._change.notify()

    def images_changed(self) -> None:
        """Note that there may be new images, or doubts about those that are there."""
        with self._change:
            self._change.notify_all()

    def ensure_minimum_one(self, language: Language) -> None:
        """Want at least one of a language from now on."""
        with self._change:
            queue = self._queues[_name(language, "")]
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
            }

    def close(self) -> list[Sandbox]:
        """Want nothing any more; everything that waited."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            waiting = [sandbox for queue in self._queues.values() for sandbox in queue.ready]
            for queue in self._queues.values():
                queue.ready.clear()
        return waiting

    def _wants(self, queue: ReadyQueue) -> bool:
        lacks = queue.ready_or_starting < (queue.size if self._busy == 0 else (queue.size + 1) // 2)
        tries = self._tries and not lacks and queue.making == 0 and self._availability.is_doubtful(queue.name)
        return (lacks or tries) and not self._is_paused(queue)

    def _is_paused(self, queue: ReadyQueue) -> bool:
        return self._clock() < queue.paused_until

    def _shortest_pause_s(self) -> float | None:
        """Return the seconds until the first pause ends; None if there is none."""
        at = self._clock()
        return min((one.paused_until - at for one in self._queues.values() if one.paused_until > at), default=None)


def _name(language: Language, way: str) -> str:
    return f"{language.id}/{way}" if way else language.id

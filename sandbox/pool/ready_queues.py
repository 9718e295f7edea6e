"""Hold the sandboxes that wait in the warm pool, and choose which to make next.

While runs are going on, nothing is wanted that the pool has half of: on a small machine, making the next sandbox
would slow the run that is under way.

Of what is in doubt one is wanted in any case, whatever waits and however few are to wait: it shows whether
sandboxes can be made, after a failure and before the first of a language. While nothing is in doubt, nobody looks.
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
    #: Until then none is to be made.
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
    """Every language's, and what goes on beside them. Safe for many threads."""

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
        shelves = [ReadyQueue(language, size) for language, size in sizes.items()]
        if engine.has_templates:
            shelves += [ReadyQueue(language, size, name) for (language, name), size in flavour_sizes(sizes).items()]
            shelves += [ReadyQueue(language, 0, container=True) for language in sizes]
        self._shelves = {shelf.name: shelf for shelf in shelves}
        self._availability = availability
        self._clock = clock
        self._change = threading.Condition()
        self._closed = False
        self._busy = 0
        #: Of the busy, those whose run has ended.
        self._ended = 0

    def find(self, language: Language, flavour: str) -> ReadyQueue:
        """Return the variant's queue, or the language's own if the variant has none."""
        return self._shelves.get(_name(language, flavour)) or self._shelves[_name(language, "")]

    def find_containers(self, language: Language) -> ReadyQueue:
        """Return the one of the language's containers: its own, where that holds such."""
        return self.find(language, CONTAINER)

    def take(self, shelf: ReadyQueue) -> Sandbox | None:
        """Return the sandbox that has waited longest."""
        with self._change:
            if not shelf.ready:
                return None
            sandbox = shelf.ready.popleft()
            if self._wants(shelf):
                self._change.notify()
        return sandbox

    def next_to_fill(self, image_of: Callable[[str], Image | None]) -> tuple[ReadyQueue, Image] | None:
        """Wait for a shelf that wants filling, the emptiest first; one more is then on its way. None at the end."""
        with self._change:
            while not self._closed:
                for shelf in sorted(self._shelves.values(), key=lambda shelf: shelf.fill_ratio):
                    image = image_of(shelf.language.id) if self._wants(shelf) else None
                    if image is not None:
                        shelf.making += 1
                        if any(map(self._wants, self._shelves.values())):
                            self._change.notify()
                        return shelf, image
                self._change.wait(self._shortest_pause_s())
        return None

    @property
    def is_closed(self) -> bool:
        """Return whether nothing is filled any more."""
        return self._closed

    def put(self, shelf: ReadyQueue, sandbox: Sandbox) -> bool:
        """Add a started sandbox. Return False if it is no longer wanted, or was made only as a test."""
        with self._change:
            shelf.making -= 1
            wanted = not self._closed and len(shelf.ready) < shelf.size
            if wanted:
                shelf.ready.append(sandbox)
            return wanted

    def give_up(self, shelf: ReadyQueue) -> None:
        """Note that a sandbox that was being started will not come."""
        with self._change:
            shelf.making -= 1

    def pause(self, shelf: ReadyQueue) -> None:
        """Want none for a while, as one could not be made: longer after each failure in a row.

        Those that fail meanwhile, as fillers and runs do together, are of the same failure.
        """
        with self._change:
            if self._is_paused(shelf):
                return
            shelf.paused_until = self._clock() + min(LONGEST_RETRY_S, RETRY_S * 2**shelf.failures)
            shelf.failures += 1

    def resume(self, shelf: ReadyQueue, failures: int) -> None:
        """End the pause, as one was made after so many failures.

        If that many count, something was mended, and the others are worth an attempt too.
        """
        with self._change:
            shelf.failures = 0
            for one in self._shelves.values() if failures >= FAILING_FROM else [shelf]:
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
            shelf = self._shelves[_name(language, "")]
            if shelf.size == 0:
                shelf.size = 1
                self._change.notify_all()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the sandboxes that are ready and those that are wanted, by language."""
        with self._change:
            return {
                name: {"ready": len(shelf.ready), "size": shelf.size}
                for name, shelf in self._shelves.items()
                if not shelf.container
            }

    def close(self) -> list[Sandbox]:
        """Want nothing any more; everything that waited."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            waiting = [sandbox for shelf in self._shelves.values() for sandbox in shelf.ready]
            for shelf in self._shelves.values():
                shelf.ready.clear()
        return waiting

    def _wants(self, shelf: ReadyQueue) -> bool:
        lacks = shelf.ready_or_starting < (shelf.size if self._busy == 0 else (shelf.size + 1) // 2)
        tries = self._tries and not lacks and shelf.making == 0 and self._availability.is_doubtful(shelf.name)
        return (lacks or tries) and not self._is_paused(shelf)

    def _is_paused(self, shelf: ReadyQueue) -> bool:
        return self._clock() < shelf.paused_until

    def _shortest_pause_s(self) -> float | None:
        """Return the seconds until the first pause ends; None if there is none."""
        at = self._clock()
        return min((one.paused_until - at for one in self._shelves.values() if one.paused_until > at), default=None)


def _name(language: Language, way: str) -> str:
    return f"{language.id}/{way}" if way else language.id

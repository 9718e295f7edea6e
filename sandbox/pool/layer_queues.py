"""Choose the layers of packages of which a sandbox waits: those that were used last, a bounded number.

One sandbox waits for each layer, forked ahead as the plain ones are. A run names its layer by the directory, which
it got only because it may use that layer. So the layer of one key serves the runs of this key alone.

A queue keeps its layer from removal by a lock, and ends it when

* another layer was used since and there is no further place: then the key with the most places gives one up, its
  least recently used;
* no run has asked for the layer for `IDLE_S`, its image was replaced, or the machine is short of memory;
* the layer is to be removed from the disk;
* no sandbox could be made.

`ReadyQueues` calls all of this under its own lock.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.agent_client.readiness import is_waiting
from sandbox.engines import Sandbox
from sandbox.images import Image
from sandbox.languages import Language
from sandbox.pool.memory import is_memory_short
from sandbox.pool.ready_queue import ReadyQueue, queue_name
from sandbox.run.package_layers import ReadyLayer

#: A layer that no run has asked for in this time has no sandbox waiting.
IDLE_S = 600.0
#: Between two looks at the sandboxes that wait, for as long as there are any.
SWEEP_S = 5.0
#: The next sandbox is made when a run has ended, so that it does not slow down the run that took the last one.
#: If none ends, it is made after this time.
BUSY_S = 2.0
PACKAGES = "packages"


@dataclass(slots=True, eq=False)
class LayerQueue(ReadyQueue):
    """The queue of one layer: one sandbox waits, or is on its way. A size of 0 means that it has ended."""

    files: Path = Path()
    #: A descriptor of the queue's own that keeps the layer from removal; -1 once it is closed.
    lock: int = -1
    image: str = ""
    #: The key whose run asked for the layer last.
    owner: str = ""
    used_at: float = 0.0
    #: Until this time no further sandbox is made.
    rests_until: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Ended:
    """The remains of a queue: the sandbox that waited, if one did, and the lock on its layer."""

    sandbox: Sandbox | None
    lock: int

    def kill(self) -> None:
        """Kill the sandbox."""
        if self.sandbox is not None:
            self.sandbox.kill()

    def destroy(self) -> None:
        """Destroy the sandbox, then release the layer. Once."""
        try:
            if self.sandbox is not None:
                self.sandbox.destroy()
        finally:
            os.close(self.lock)


class LayerQueues:
    """The queues of layers, the least recently used first."""

    def __init__(
        self,
        most: int,
        clock: Callable[[], float],
        dispose: Callable[[Sandbox | Ended], None],
        is_short: Callable[[], bool] = is_memory_short,
    ) -> None:
        """Keep `most` queues. `dispose` takes apart what is not wanted any more, without blocking."""
        self._most = most
        self._clock = clock
        self._dispose = dispose
        self._is_short = is_short
        self._short = False
        self._queues: dict[Path, LayerQueue] = {}
        self._next_sweep = 0.0

    def __iter__(self) -> Iterator[LayerQueue]:
        return iter(list(self._queues.values()))

    def use(self, language: Language, image: Image, layer: ReadyLayer, owner: str) -> LayerQueue | None:
        """Note that a run of a key asks for a layer that it holds, and return the queue; None if it has none."""
        if not self._most or self._short or layer.lock < 0:
            return None
        now = self._clock()
        queue = self._queues.pop(layer.files, None)
        if queue is None:
            self._make_room(owner)
            lock = os.dup(layer.lock)
            queue = LayerQueue(language, 1, files=layer.files, lock=lock, image=image.digest)
            queue.name = queue_name(language, PACKAGES)
            if not self._queues:
                self._next_sweep = now + SWEEP_S
        self._queues[layer.files] = queue
        queue.owner, queue.used_at, queue.rests_until = owner, now, now + BUSY_S
        return queue

    def wants(self, queue: LayerQueue) -> bool:
        """Return whether a sandbox is to be made for the queue now."""
        return queue.ready_or_starting < queue.size and self._clock() >= queue.rests_until

    def run_has_ended(self) -> None:
        """Note that a run has ended, and its answer is sent: what it took may be made again."""
        for queue in self._queues.values():
            queue.rests_until = float("-inf")

    def end(self, queue: LayerQueue) -> Ended | None:
        """End a queue and return its remains; None if they are a maker's, who calls this when there are none."""
        queue.size = 0
        if self._queues.get(queue.files) is queue:
            del self._queues[queue.files]
        if queue.making or queue.lock < 0:
            return None
        ended = Ended(queue.ready.popleft() if queue.ready else None, queue.lock)
        queue.lock = -1
        return ended

    def find(self, files: Path) -> LayerQueue | None:
        """Return the queue of a layer."""
        return self._queues.get(files)

    def sweep(self, image_of: Callable[[str], Image | None]) -> None:
        """End what waits in vain, now and then."""
        now = self._clock()
        if now < self._next_sweep or not (self._queues or self._short):
            return
        self._next_sweep = now + SWEEP_S
        self._short = self._is_short()
        for queue in list(self._queues.values()):
            image = image_of(queue.language.id)
            is_current = image is not None and image.digest == queue.image
            if self._short or not is_current or now - queue.used_at >= IDLE_S:
                self._end_behind(queue)
            elif queue.ready and (queue.ready[0].is_outdated() or not is_waiting(queue.ready[0])):
                self._dispose(queue.ready.popleft())

    def next_due_s(self) -> float | None:
        """Return the seconds until there may be something to do; None if that is never so."""
        if not self._queues and not self._short:
            return None
        now = self._clock()
        due = [queue.rests_until for queue in self._queues.values() if queue.rests_until > now]
        return max(0.0, min([self._next_sweep, *due]) - now)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the sandboxes that are ready and those that are wanted, by language."""
        found: dict[str, dict[str, int]] = {}
        for queue in self._queues.values():
            count = found.setdefault(queue.name, {"ready": 0, "size": 0})
            count["ready"] += len(queue.ready)
            count["size"] += queue.size
        return found

    def close(self) -> list[Ended]:
        """End all and return the remains."""
        return [ended for queue in list(self._queues.values()) if (ended := self.end(queue)) is not None]

    def _end_behind(self, queue: LayerQueue) -> None:
        ended = self.end(queue)
        if ended is not None:
            self._dispose(ended)

    def _make_room(self, owner: str) -> None:
        """End a queue if there is no place for one more, which is to be of `owner`."""
        if len(self._queues) < self._most:
            return
        places = Counter(queue.owner for queue in self._queues.values())
        places[owner] += 1
        most = max(places[queue.owner] for queue in self._queues.values())
        self._end_behind(next(queue for queue in self._queues.values() if places[queue.owner] == most))

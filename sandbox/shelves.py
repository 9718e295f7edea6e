"""What waits in the warm pool, and what is to be made next.

While runs are going on, nothing is wanted that the pool has half of: on a small machine, making the next sandbox
would slow the run that is under way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox.engines import Engine, Sandbox
from sandbox.images import Image
from sandbox.languages import Language
from sandbox.pool_sizes import flavour_sizes

#: After the first failure to make a sandbox; twice as long after each further one in a row.
RETRY_S, LONGEST_RETRY_S = 2.0, 60.0


@dataclass(slots=True)
class Shelf:
    """One language's ready sandboxes, or those of one flavour of it. `making` are on their way."""

    language: Language
    size: int
    flavour: str = ""
    ready: deque[Sandbox] = field(default_factory=deque)
    making: int = 0
    paused: bool = False
    #: In a row, of making one.
    failures: int = 0

    @property
    def coming(self) -> int:
        """How many there are, or will be."""
        return len(self.ready) + self.making

    @property
    def fullness(self) -> float:
        """From 0 to 1."""
        return self.coming / max(self.size, 1)


class Shelves:
    """Every language's, and what goes on beside them. Safe for many threads."""

    def __init__(self, engine: Engine, sizes: Mapping[Language, int]) -> None:
        """One of each language, and where the engine has them, of each flavour."""
        self._shelves = {_name(language, ""): Shelf(language, size) for language, size in sizes.items()}
        if engine.has_templates:
            for (language, flavour), size in flavour_sizes(sizes).items():
                self._shelves[_name(language, flavour)] = Shelf(language, size, flavour)
        self._change = threading.Condition()
        self._closed = False
        self._busy = 0
        #: Of the busy, those whose run has ended.
        self._ended = 0

    def find(self, language: Language, flavour: str) -> Shelf:
        """The flavour's, or the language's own if that has none."""
        return self._shelves.get(_name(language, flavour)) or self._shelves[_name(language, "")]

    def take(self, shelf: Shelf) -> Sandbox | None:
        """What has waited for longest."""
        with self._change:
            if not shelf.ready:
                return None
            sandbox = shelf.ready.popleft()
            if self._wants(shelf):
                self._change.notify()
        return sandbox

    def next_to_fill(self, image_of: Callable[[str], Image | None]) -> tuple[Shelf, Image] | None:
        """Wait for a shelf that wants filling, the emptiest first; one more is then on its way. None at the end."""
        with self._change:
            while not self._closed:
                for shelf in sorted(self._shelves.values(), key=lambda shelf: shelf.fullness):
                    image = image_of(shelf.language.id) if self._wants(shelf) else None
                    if image is not None:
                        shelf.making += 1
                        if any(map(self._wants, self._shelves.values())):
                            self._change.notify()
                        return shelf, image
                self._change.wait()
        return None

    def put(self, shelf: Shelf, sandbox: Sandbox) -> bool:
        """What was on its way is there. False if it is not wanted any more."""
        with self._change:
            shelf.making -= 1
            shelf.failures = 0
            if not self._closed:
                shelf.ready.append(sandbox)
            return not self._closed

    def failed(self, shelf: Shelf) -> None:
        """Give up one that was to be made, and want no other for a while: longer after each failure in a row."""
        with self._change:
            shelf.making -= 1
            if shelf.paused:  # another filler's failure has begun the pause
                return
            shelf.paused = True
            pause_s = min(LONGEST_RETRY_S, RETRY_S * 2**shelf.failures)
            shelf.failures += 1
        timer = threading.Timer(pause_s, self._resume, [shelf])
        timer.daemon = True
        timer.start()

    def _resume(self, shelf: Shelf) -> None:
        with self._change:
            shelf.paused = False
            self._change.notify_all()

    def run_begins(self) -> None:
        """Another run is under way."""
        with self._change:
            self._busy += 1

    def run_ends(self) -> None:
        """One is over; it counts until `forget_ended`."""
        with self._change:
            self._ended += 1

    def forget_ended(self) -> None:
        """What ended runs kept from being wanted is wanted now."""
        with self._change:
            if self._ended:
                self._busy -= self._ended
                self._ended = 0
                self._change.notify()

    def look_again(self) -> None:
        """There may be images that were not there."""
        with self._change:
            self._change.notify_all()

    def keep_one(self, language: Language) -> None:
        """Want at least one of a language from now on."""
        with self._change:
            shelf = self._shelves[_name(language, "")]
            if shelf.size == 0:
                shelf.size = 1
                self._change.notify_all()

    def counts(self) -> dict[str, dict[str, int]]:
        """Ready and wanted, by language."""
        with self._change:
            return {name: {"ready": len(shelf.ready), "size": shelf.size} for name, shelf in self._shelves.items()}

    def close(self) -> list[Sandbox]:
        """Want nothing any more; everything that waited."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            waiting = [sandbox for shelf in self._shelves.values() for sandbox in shelf.ready]
            for shelf in self._shelves.values():
                shelf.ready.clear()
        return waiting

    def _wants(self, shelf: Shelf) -> bool:
        if shelf.paused or shelf.coming >= shelf.size:
            return False
        return self._busy == 0 or shelf.coming < (shelf.size + 1) // 2


def _name(language: Language, flavour: str) -> str:
    return f"{language.id}/{flavour}" if flavour else language.id
